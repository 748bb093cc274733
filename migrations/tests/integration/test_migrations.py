"""The migrated database is the declared one, whichever process migrates and however often."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from dreamforge.contracts.errors import NotOurs
from dreamforge.contracts.tables import metadata
from dreamforge.migrations import current, head, schema, upgrade
from dreamforge.migrations.__main__ import main
from dreamforge.migrations.drift import draft, drift
from dreamforge.migrations.schema import UnknownSchemaVersion


def tables_of(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return {row[0] for row in rows}


def test_the_migrated_schema_equals_the_declared_one(empty_database_url: str) -> None:
    upgrade(empty_database_url)

    assert drift(empty_database_url) == []
    assert tables_of(empty_database_url) == {*metadata.tables, "alembic_version"}


def test_versions_are_named_by_their_files(empty_database_url: str) -> None:
    """Whoever only looks for a newer one does not import Alembic."""
    scripts = ScriptDirectory(str(schema.SCRIPTS))
    for script in scripts.walk_revisions():
        assert Path(script.path).name.startswith(f"{script.revision}_")
    assert head() == scripts.get_current_head()
    upgrade(empty_database_url)
    with schema.connection(empty_database_url) as connection:
        assert current(empty_database_url) == MigrationContext.configure(connection).get_current_revision()


def test_drift_names_what_differs(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("ALTER TABLE jobs DROP COLUMN preset")

    assert any("preset" in difference for difference in drift(empty_database_url))


def test_upgrading_again_changes_nothing(empty_database_url: str) -> None:
    assert current(empty_database_url) is None
    upgrade(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("INSERT INTO checkpoints VALUES ('JOBS', 7, now())")

    upgrade(empty_database_url)

    assert current(empty_database_url) == head()
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT sequence FROM checkpoints").fetchall() == [(7,)]


def test_services_that_start_together_migrate_once(empty_database_url: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(upgrade, [empty_database_url] * 6))

    assert drift(empty_database_url) == []


@pytest.mark.parametrize("version", [None, "0001", "c0ffee"], ids=["plain", "the-same-version", "another-version"])
def test_a_database_of_something_else_is_refused_and_left_as_it_is(
    empty_database_url: str, version: str | None
) -> None:
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("CREATE TABLE jobs (salary int)")
        if version is not None:
            connection.execute("CREATE TABLE alembic_version (version_num text)")
            connection.execute("INSERT INTO alembic_version VALUES (%s)", (version,))
    before = tables_of(empty_database_url)

    with pytest.raises(NotOurs, match="it holds jobs"):
        upgrade(empty_database_url)

    assert tables_of(empty_database_url) == before


def test_a_database_of_a_newer_release_is_refused(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(UnknownSchemaVersion, match="at version 9999"):
        upgrade(empty_database_url)


def test_the_command_upgrades_and_checks(empty_database_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", empty_database_url]) == 1
    assert main(["upgrade", empty_database_url]) == 0
    assert main(["check", empty_database_url]) == 0
    assert f"at version {head()}" in capsys.readouterr().out


def test_a_draft_is_the_next_version(empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = tmp_path / "script"
    shutil.copytree(schema.SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(schema, "SCRIPTS", scripts)
    before = head()

    number = draft(empty_database_url, "nothing new")

    assert (int(number), head()) == (int(before) + 1, number)
    upgrade(empty_database_url)
    assert current(empty_database_url) == number
    assert drift(empty_database_url) == []


def test_the_command_says_that_no_database_answers() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "dreamforge.migrations", "upgrade", "postgresql://nobody@127.0.0.1:1/none"],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert run.returncode == 1
    assert run.stderr.startswith("cannot upgrade: ")
    assert "Traceback" not in run.stderr
