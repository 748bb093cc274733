"""What the documents tell a newcomer to type exists, and what they link to is there."""

import json
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer

from dreamforge.cli.main import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "DEV.md", *(ROOT / "docs").glob("*.md")])
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
# A command stands at the start, after a prompt to run it, or inside `$(...)`; "a task of ..." in a comment does not.
TASK = re.compile(r"(?:^|\buv run |&& |\$\()task ([a-z][a-z:-]*)", re.MULTILINE)
COMMAND = re.compile(r"(?:^|\buv run |&& |\$\()dreamforge ((?:[a-z]+ ?)+)", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")

pytestmark = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def code_of(text: str) -> list[str]:
    """Every fenced block, and every inline span outside of them; indentation is not part of a command."""
    blocks = [re.sub(r"^\s+", "", block, flags=re.MULTILINE) for block in FENCE.findall(text)]
    return blocks + INLINE.findall(FENCE.sub("", text))


def tasks() -> set[str]:
    listed = subprocess.run(
        [Path(sys.executable).parent / "task", "--list-all", "--json"], cwd=ROOT, capture_output=True, check=True
    )
    return {task["name"] for task in json.loads(listed.stdout)["tasks"]}


def is_command(words: list[str]) -> bool:
    """Whether these words lead to a command; what follows a command with no sub-commands is its argument."""
    here: click.Command = typer.main.get_command(app)
    for word in words:
        commands: dict[str, click.Command] | None = getattr(here, "commands", None)
        if commands is None:
            return True
        if word not in commands:
            return False
        here = commands[word]
    return True


def test_every_task_exists(document: Path) -> None:
    named = {name for code in code_of(document.read_text()) for name in TASK.findall(code)}
    assert named <= tasks(), f"{document.name} names tasks that do not exist"


def test_every_command_exists(document: Path) -> None:
    named = {words.strip() for code in code_of(document.read_text()) for words in COMMAND.findall(code)}
    assert not {words for words in named if not is_command(words.split())}, document.name


def test_every_relative_link_resolves(document: Path) -> None:
    links = [link for link in LINK.findall(document.read_text()) if "://" not in link]
    assert not [link for link in links if not (document.parent / link).exists()], document.name
