"""The whole stack as one: what it says, how it stops, and that a `kill -9` of its owner leaves and loses nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import nats
import psycopg
import pytest

from dreamforge.runtime.embedded import EmbeddedStack, FolderInUse, PortInUse
from dreamforge.runtime.embedded.ports import LOOPBACK, is_taken
from dreamforge.runtime.embedded.processes import identity, kill_strays
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.buckets import S3Settings

OWNER = """
import asyncio, json, sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from dreamforge.runtime.embedded import EmbeddedStack

async def main():
    async with EmbeddedStack(Path(sys.argv[1])) as stack:
        shown = [[p.name, p.pid, p.address] for p in stack.processes()]
        print(json.dumps({"processes": shown, "env": stack.settings_env()}), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@dataclass(frozen=True)
class Owner:
    """A Python process that runs the stack, its output, and the servers' pids and ports."""

    process: "subprocess.Popen[str]"
    env: dict[str, str]
    pids: list[int]
    ports: list[int]


@contextmanager
def running_owner(folder: Path) -> Iterator[Owner]:
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        shown = json.loads(process.stdout.readline())
        addresses = [address for _, _, address in shown["processes"] if not address.startswith("unix:")]
        ports = [int(address.rpartition(":")[2]) for address in addresses]
        yield Owner(process, shown["env"], [pid for _, pid, _ in shown["processes"]], ports)
    finally:
        process.kill()
        process.wait()


async def write_everywhere(env: dict[str, str], word: str) -> None:
    connection = await nats.connect(env["FORGE_NATS_URL"])
    await connection.jetstream().add_stream(name="KEPT", subjects=["kept.>"])
    for number in range(20):
        await connection.jetstream().publish(f"kept.{number}", word.encode())
    await connection.close()
    with psycopg.connect(env["FORGE_DATABASE_URL"]) as database:
        database.execute("CREATE TABLE kept AS SELECT %s::text AS word", (word,))
    settings = s3_of(env)
    settings.client().make_bucket(settings.bucket)
    put(settings, word)


def s3_of(env: dict[str, str]) -> S3Settings:
    return S3Settings.of({name: value for name, value in env.items() if name.startswith("FORGE_S3_")})


def put(settings: S3Settings, word: str) -> None:
    from io import BytesIO

    settings.client().put_object(settings.bucket, "kept", BytesIO(word.encode()), len(word))


async def read_everywhere(env: dict[str, str]) -> list[str]:
    connection = await nats.connect(env["FORGE_NATS_URL"])
    message = await connection.jetstream().get_last_msg("KEPT", "kept.19")
    await connection.close()
    with psycopg.connect(env["FORGE_DATABASE_URL"]) as database:
        row = database.execute("SELECT word FROM kept").fetchone()
    settings = s3_of(env)
    image = settings.client().get_object(settings.bucket, "kept").data
    return [(message.data or b"").decode(), str((row or [""])[0]), image.decode()]


def family_of(pids: list[int]) -> list[int]:
    """These processes, their guardians and their children (Postgres has half a dozen)."""
    parents = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):  # not a process, or one that ended while we looked
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    children = [pid for pid, parent in parents.items() if parent in pids]
    return [*pids, *(parents[pid] for pid in pids), *children]


async def test_it_names_the_settings_and_processes_of_its_servers(tmp_path: Path) -> None:
    async with EmbeddedStack(tmp_path) as stack:
        env = stack.settings_env()
        assert set(env) == {
            "FORGE_NATS_URL",
            "FORGE_NATS_MONITOR_URL",
            "FORGE_DATABASE_URL",
            *(f"FORGE_S3_{name}" for name in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY", "BUCKET", "SECURE")),
        }
        assert env["FORGE_S3_SECURE"] == "false"
        await write_everywhere(env, "a fact")
        assert await read_everywhere(env) == ["a fact"] * 3
        processes = stack.processes()
    assert [process.name for process in processes] == ["nats", "postgres", "s3"]
    assert not [process for process in processes if identity(process.pid)]
    assert stack.processes() == []


async def test_it_stops_in_reverse_order(tmp_path: Path) -> None:
    """When one server is told to stop, all that started after it have ended already."""
    running_at_stop: dict[str, list[str]] = {}
    stack = EmbeddedStack(tmp_path, fsync=False)
    await stack.start()
    for server in stack.servers:

        async def observed(stop=server.stop, name=server.name) -> None:  # type: ignore[no-untyped-def]
            running_at_stop[name] = [process.name for process in stack.processes()]
            await stop()

        server.stop = observed  # type: ignore[method-assign]
    await stack.stop()
    assert running_at_stop == {"s3": ["nats", "postgres", "s3"], "postgres": ["nats", "postgres"], "nats": ["nats"]}


async def test_one_server_that_cannot_start_leaves_none_running(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        stack = EmbeddedStack(tmp_path, postgres_port=other.getsockname()[1], fsync=False)
        with pytest.raises(PortInUse, match=r"postgres: port \d+ is in use"):
            await stack.start()
    assert stack.processes() == []
    async with stack:
        assert len(stack.processes()) == 3


async def test_a_second_start_is_refused_by_the_pid_of_the_first(tmp_path: Path) -> None:
    with running_owner(tmp_path) as owner:
        with pytest.raises(FolderInUse, match=f"process {owner.process.pid} runs its servers there") as caught:
            await EmbeddedStack(tmp_path).start()
        assert caught.value.owner_pid == owner.process.pid
        await write_everywhere(owner.env, "the first is unharmed")


async def test_killing_the_owner_leaves_no_process_no_port_and_no_loss(tmp_path: Path) -> None:
    with running_owner(tmp_path) as owner:
        await write_everywhere(owner.env, "a fact")
        family = family_of(owner.pids)
        assert len(family) >= 3 + 3 + 4
        assert all(is_taken(port) for port in owner.ports)
        os.kill(owner.process.pid, signal.SIGKILL)
        await eventually(lambda: [pid for pid in family if identity(pid)], 5, until=lambda living: not living)
        assert not [port for port in owner.ports if is_taken(port)]
        async with EmbeddedStack(tmp_path) as stack:
            assert await read_everywhere(stack.settings_env()) == ["a fact"] * 3


async def test_a_start_right_after_a_kill_waits_for_the_old_servers_to_be_gone(tmp_path: Path) -> None:
    """On the same ports, with the old owner not even reaped: what a supervisor's restart looks like."""
    with running_owner(tmp_path) as owner:
        await write_everywhere(owner.env, "a fact")
        owner.process.kill()
        nats_port, postgres_port = owner.ports
        stack = EmbeddedStack(tmp_path, nats_port=nats_port, postgres_port=postgres_port)
        async with stack:
            monitor = {"FORGE_NATS_MONITOR_URL": owner.env["FORGE_NATS_MONITOR_URL"]}
            assert stack.settings_env() | monitor == owner.env
            assert await read_everywhere(owner.env) == ["a fact"] * 3
            assert not [pid for pid in owner.pids if identity(pid)]


async def test_owner_and_guardians_killed_together_block_no_later_start(tmp_path: Path) -> None:
    with running_owner(tmp_path) as owner:
        await write_everywhere(owner.env, "a fact")
        guardians = family_of(owner.pids)[3:6]
        for pid in (*guardians, owner.process.pid):
            os.kill(pid, signal.SIGKILL)
        async with EmbeddedStack(tmp_path) as stack:
            assert await read_everywhere(stack.settings_env()) == ["a fact"] * 3
            assert not [pid for pid in owner.pids if identity(pid)]


async def test_strays_are_known_by_program_and_folder(tmp_path: Path) -> None:
    own, elsewhere = tmp_path / "own", tmp_path / "elsewhere"
    for folder in (own, elsewhere):
        folder.mkdir()
    stray, other, foreign = sleep_in(own), sleep_in(elsewhere), sleep_in(own, "tail", "-f", "/dev/null")
    try:
        assert kill_strays(own, "sleep") == [stray.pid]
        assert stray.wait() == -signal.SIGKILL
        assert other.poll() is None
        assert foreign.poll() is None
        assert kill_strays(own, "sleep") == []
    finally:
        for process in (stray, other, foreign):
            process.kill()
            process.wait()


def sleep_in(folder: Path, *command: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command or ("sleep", "300"), cwd=folder)
