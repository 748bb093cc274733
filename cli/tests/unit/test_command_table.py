"""The commands of the table are those of their modules, which are imported only when a command is called."""

import json
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


# What none of our commands needs to say what it takes, and what a command that asks the gateway never needs for it.
HEAVY = (
    *("torch", "numpy", "fastapi", "faststream", "sqlalchemy", "alembic", "psycopg", "minio", "cryptography", "PIL"),
    *("dreamforge.runtime.embedded", "dreamforge.cli.models.add"),
)
OF_THE_LOG = ("nats", "dreamforge.contracts.events", "dreamforge.cli.jobs.watch")
# Those that read or write the log themselves, or write files for those that do.
READ_THE_LOG = ("demo", "audit", "events", "streams", "secrets", "keys", "tenants", "service")
# Of 429 at the start, before any command; httpx is 50 more, and the declared parameters are 30.
MODULES_MAX, MODULES_OF_THE_LOG_MAX = 540, 690
COUNTED = f"""
import json, os, sys
from dreamforge.cli.command_table import ENTRIES
from dreamforge.cli.main import app
for name, entry in ENTRIES.items():
    if (child := os.fork()) == 0:
        entry.load(name)
        found = [each for each in {HEAVY + OF_THE_LOG!r} if each in sys.modules]
        os.write(1, (json.dumps([name, len(sys.modules), found]) + "\\n").encode())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, name
"""


def test_a_command_imports_only_what_it_needs_to_be_called() -> None:
    """The time to an answer is that of the imports: modules are what can be counted on any machine."""
    done = subprocess.run([sys.executable, "-c", COUNTED], capture_output=True, text=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [name for name, _, _ in rows] == [*ENTRIES]
    for name, modules, found in rows:
        assert [each for each in found if name not in READ_THE_LOG or each in HEAVY] == [], name
        assert modules <= (MODULES_OF_THE_LOG_MAX if name in READ_THE_LOG else MODULES_MAX), (name, modules)


def test_the_start_imports_no_command() -> None:
    names = "[name for name in sys.modules if name.startswith('dreamforge.cli.commands.') or name in ('httpx', 'nats')]"
    program = f"import sys, dreamforge.cli.main; print({names})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
