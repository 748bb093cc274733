"""What is particular to the embedded Postgres; what it shares with the others is in test_embedded_servers."""

import asyncio
import os
import re
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest

from dreamforge.runtime.embedded import EmbeddedError, PostgresServer
from dreamforge.runtime.embedded.processes import identity
from dreamforge.runtime.testing import eventually


async def test_postgres_ending_at_its_start_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    async with PostgresServer(tmp_path, fsync=False) as server:
        pass
    (server.data_folder / "global" / "pg_control").write_bytes(b"not a control file")
    with pytest.raises(EmbeddedError, match=r"(?s)it ended with -?\d.*pg_control"):
        await server.start()


async def test_postgres_accepts_its_password_only(postgres_server: PostgresServer) -> None:
    wrong = re.sub(":[0-9a-f]+@", ":wrong@", postgres_server.url)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"postgresql://postgres:wrong@{postgres_server.address}/postgres")


async def test_the_services_role_is_no_superuser(postgres_server: PostgresServer) -> None:
    with psycopg.connect(postgres_server.url) as connection:
        row = connection.execute("SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user").fetchone()
    assert row == (False, True)


@pytest.mark.parametrize(("fsync", "expected"), [(True, "on"), (False, "off")])
async def test_postgres_syncs_unless_a_test_says_otherwise(tmp_path: Path, fsync: bool, expected: str) -> None:
    async with PostgresServer(tmp_path, fsync=fsync) as server:
        with psycopg.connect(server.url) as connection:
            for setting in ("fsync", "full_page_writes"):
                assert connection.execute(f"SHOW {setting}").fetchone() == (expected,)
            assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)


async def test_postgres_starts_over_a_pid_file_whose_pid_belongs_to_another_process(tmp_path: Path) -> None:
    async with PostgresServer(tmp_path, fsync=False) as server:
        await server.kill()
        pid_file = server.data_folder / "postmaster.pid"
        owner = pid_file.stat()
        other = sleep_as(owner.st_uid)
        try:
            _, _, rest = pid_file.read_text().partition("\n")
            pid_file.write_text(f"{other.pid}\n{rest}")
            await server.restart()
            assert other.poll() is None, "it must not be harmed"
        finally:
            other.kill()
            other.wait()


async def test_postgres_starts_over_a_pid_file_that_it_was_killed_before_writing(tmp_path: Path) -> None:
    async with PostgresServer(tmp_path, fsync=False) as server:
        await server.kill()
        (server.data_folder / "postmaster.pid").write_text("")
        await server.restart()


def sleep_as(uid: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["sleep", "300"], user=uid if os.geteuid() == 0 else None)


async def test_postgres_left_by_a_killed_guardian_is_removed(tmp_path: Path) -> None:
    """A busy backend does not notice that its postmaster was killed; only the guardian would have removed it."""
    async with PostgresServer(tmp_path, fsync=False) as server:
        with psycopg.connect(server.url) as connection:
            backend = connection.info.backend_pid
            if not os.access(f"/proc/{backend}/cwd", os.R_OK):
                pytest.skip("may not look at another user's processes here: Postgres then refuses to start")
            busy = asyncio.create_task(asyncio.to_thread(keep_busy, connection))
            await eventually(lambda: is_on_cpu(backend))
            assert server._process is not None
            os.kill(server._process.guardian_pid, signal.SIGKILL)
            await server.wait()
            assert identity(backend), "else this test shows nothing"
            await server.restart()
            assert identity(backend) is None
            await busy
        with psycopg.connect(server.url) as again:
            assert again.execute("SELECT 1").fetchone() == (1,)


def keep_busy(connection: "psycopg.Connection[Any]") -> None:
    with pytest.raises(psycopg.OperationalError):
        connection.execute("DO $$ BEGIN FOR i IN 1..2000000000 LOOP NULL; END LOOP; END $$")


def is_on_cpu(pid: int) -> bool:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0] == "R" and int(fields[11]) > 3


async def test_an_interrupted_first_initdb_is_repeated(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path, fsync=False)
    starting = asyncio.create_task(server.start())
    await eventually((tmp_path / "data.draft" / "base").exists, interval_seconds=0)  # it is there for a moment only
    starting.cancel()
    await asyncio.wait({starting})
    assert not server.data_folder.exists()
    async with server:
        assert server.is_running


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, which Postgres refuses to run as")
async def test_postgres_of_root_runs_unprivileged_below_a_private_folder(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    async with PostgresServer(private / "postgres", fsync=False) as server:
        assert os.stat(f"/proc/{server.pid}").st_uid != 0
        assert stat.S_IMODE(private.stat().st_mode) == 0o700, "no folder was opened to others for it"
