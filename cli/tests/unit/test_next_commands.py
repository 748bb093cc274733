"""Every command that the program tells people to type is one that it has, with options that it has."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

import dreamforge.cli.main
from dreamforge.cli.main import app

SOURCES = Path(dreamforge.cli.main.__file__).parent
# Up to the end of a span of code, of a line, of a text or of a sentence.
NAMED = re.compile(r"dreamforge ([a-z][^`\"'\n;]*)")
MADE = re.compile(r"next_command\(f?(['\"])([a-z].*?)\1\)")


def named_commands() -> set[str]:
    """First lines of docstrings only mention a command."""
    lines = [line for path in SOURCES.rglob("*.py") for line in path.read_text(encoding="utf-8").splitlines()]
    told = [line.strip() for line in lines if not line.lstrip().startswith('"""')]
    examples = {line.removeprefix("dreamforge ") for line in told if line.startswith("dreamforge ")}
    inside = [line for line in told if not line.startswith("dreamforge ")]
    named = {found.strip(" .,):") for line in inside for found in NAMED.findall(line)}
    return named | examples | {found for line in told for _, found in MADE.findall(line)}


@pytest.mark.parametrize("words", sorted(named_commands()))
def test_a_named_command_exists(words: str) -> None:
    words = re.sub(r"\$\(.*\)", "WORD", words).partition(" | ")[0].partition(" && ")[0]
    here: Any = typer.main.get_command(app)  # Any: typer's own copy of click
    try:
        parts = shlex.split(words, comments=True)
    except ValueError:
        parts = words.split()
    while parts and (commands := getattr(here, "commands", None)):
        assert parts[0] in commands, f"dreamforge {words}"
        _, here, parts = here.resolve_command(typer.Context(here), parts)
    options = {name for each in here.params for name in (*each.opts, *each.secondary_opts)}
    assert {part for part in parts if part.startswith("-")} <= options, f"dreamforge {words}"
    needed = [each.name for each in here.params if each.param_type_name == "argument" and each.required]
    assert len([part for part in parts if not part.startswith("-")]) >= len(needed), f"dreamforge {words}: {needed}"
