"""What the documents name exists: commands, links, files, tests."""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from dreamforge.cli.main import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "DEV.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs/howto").glob("*.md")]
)
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
# A command stands at the start, after a prompt to run it, or inside `$(...)`; "a task of ..." in a comment does not.
TASK = re.compile(r"(?:^|\buv run |&& |\$\()task ([a-z][a-z:-]*)", re.MULTILINE)
COMMAND = re.compile(r"(?:^|\buv run |&& |\$\()dreamforge ((?:[a-z]+ ?)+)", re.MULTILINE)
# A file of the repository: `contracts/request/parameters.py` may leave out where the distribution keeps its source.
PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*/?")
SUFFIXES = (".py", ".js", ".css", ".html", ".md", ".json", ".toml", ".yml", ".conf")
TEST = re.compile(r"test_\w+")
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")

DEFINED_TEST = re.compile(r"^\s*(?:async )?def (test_\w+)", re.MULTILINE)

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
    here: Any = typer.main.get_command(app)  # Any: typer's own copy of click
    for word in words:
        commands = getattr(here, "commands", None)
        if commands is None:
            return True
        if word not in commands:
            return False
        _, here, _ = here.resolve_command(typer.Context(here), [word])
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


@cache
def repository_files() -> tuple[str, ...]:
    """Every tracked or new file, and every folder, as `/path` from the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    files = [Path(name) for name in listed if (ROOT / name).exists()]
    folders = {str(parent) for file in files for parent in file.parents}
    return tuple(f"/{each}" for each in (*map(str, files), *folders))


@cache
def defined_tests() -> frozenset[str]:
    texts = (
        path.read_text(encoding="utf-8") for path in ROOT.glob("**/tests/**/test_*.py") if ".venv" not in path.parts
    )
    return frozenset(name for text in texts for name in DEFINED_TEST.findall(text))


def test_every_file_exists(document: Path) -> None:
    top = {each.split("/")[1] for each in repository_files()}
    spans = [span for span in INLINE.findall(FENCE.sub("", document.read_text())) if PATH.fullmatch(span)]
    paths = {
        span.rstrip("/") for span in spans if span.endswith(SUFFIXES) or ("/" in span and span.split("/")[0] in top)
    }
    made = {path for path in paths if path.startswith(".forge") or path == "dreamforge.json"}
    missing = {path for path in paths - made if not any(each.endswith(f"/{path}") for each in repository_files())}
    assert not missing, document.name


def test_every_test_exists(document: Path) -> None:
    spans = [span for span in INLINE.findall(FENCE.sub("", document.read_text())) if TEST.fullmatch(span)]
    assert not set(spans) - defined_tests(), document.name
