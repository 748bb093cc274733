"""The commands of the table are those of their modules, which are imported only when a command is called."""

import subprocess
import sys
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from dreamforge.cli.command_table import ENTRIES
from dreamforge.cli.main import app


@pytest.mark.parametrize("name", ENTRIES)
def test_the_list_shows_the_first_line_of_the_commands_own_help(name: str) -> None:
    root: Any = typer.main.get_command(app)  # Any: typer's own copy of click
    _, command, rest = root.resolve_command(typer.Context(root), [name, "--json"])
    listed = root.commands[name]
    assert (command.name, command.hidden, rest) == (listed.name, listed.hidden, ["--json"])
    assert (command.help or "").partition("\n\n")[0].replace("\n", " ") == listed.help


def test_a_name_that_is_no_command_is_refused_with_the_nearest_one() -> None:
    answer = CliRunner().invoke(app, ["job"])
    assert answer.exit_code == 2
    assert "No such command 'job'. Did you mean 'jobs'?" in answer.output


def test_the_start_imports_no_command() -> None:
    names = "[name for name in sys.modules if name.startswith('dreamforge.cli.commands.') or name in ('httpx', 'nats')]"
    program = f"import sys, dreamforge.cli.main; print({names})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
