"""Nothing a guarded process started is left when it ends, or when its parent ends, however that happens."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dreamforge.runtime.embedded import EmbeddedError, spawn
from dreamforge.runtime.embedded.folder import FolderLock
from dreamforge.runtime.embedded.guard import GuardedProcess
from dreamforge.runtime.embedded.processes import identity
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.blocking import run_blocking

# A command with a child in its group and one that left for a session of its own, as Postgres backends do.
FAMILY = """
sleep 300 & echo $! >> pids
setsid sh -c 'echo $$ >> pids; exec sleep 300' &
echo $$ >> pids
wait
"""
PARENT = """
import asyncio, json, os, signal, sys
from pathlib import Path
from dreamforge.runtime.embedded import spawn

async def main():
    process = await spawn(["sh", "-c", sys.argv[1]], folder=Path(sys.argv[2]))
    if "fork" in sys.argv:  # a child that shares all our descriptors, the guardian's socket among them
        if os.fork() == 0:
            Path(sys.argv[2], "forked").write_text(str(os.getpid()))
            signal.pause()
    print(json.dumps([process.pid, process.guardian_pid]), flush=True)
    await process.wait()

asyncio.run(main())
"""


async def family_of(folder: Path) -> list[int]:
    """Pids of the three processes that FAMILY consists of, once all are known."""
    pids = folder / "pids"
    lines = await eventually(lambda: pids.read_text().split() if pids.exists() else [], until=lambda p: len(p) == 3)
    return [int(pid) for pid in lines]


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if identity(pid)]


async def gone(pids: list[int]) -> None:
    await eventually(lambda: alive(pids), 5, until=lambda living: not living)


@contextmanager
def running_parent(folder: Path, *options: str) -> "Iterator[tuple[subprocess.Popen[str], list[int]]]":
    """A Python process that guards FAMILY, and the pids of the command and its guardian."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, FAMILY, str(folder), *options], stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout
        yield parent, json.loads(parent.stdout.readline())
    finally:
        parent.kill()
        parent.wait()


async def family(folder: Path) -> tuple[GuardedProcess, list[int]]:
    process = await spawn(["sh", "-c", FAMILY], folder=folder)
    return process, await family_of(folder)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
async def test_no_descendant_outlives_the_parent(tmp_path: Path, end: signal.Signals) -> None:
    with running_parent(tmp_path) as (parent, guarded):
        pids = [*await family_of(tmp_path), *guarded]
        assert alive(pids) == pids
        parent.send_signal(end)
        await gone(pids)


async def test_a_surviving_fork_of_the_parent_does_not_keep_the_command_alive(tmp_path: Path) -> None:
    with running_parent(tmp_path, "fork") as (parent, guarded):
        try:
            pids = [*await family_of(tmp_path), *guarded]
            parent.kill()
            await gone(pids)
        finally:
            os.kill(int((tmp_path / "forked").read_text()), signal.SIGKILL)


async def test_killing_the_guardian_kills_the_command(tmp_path: Path) -> None:
    process, _ = await family(tmp_path)
    os.kill(process.guardian_pid, signal.SIGKILL)
    await gone([process.pid])
    assert await process.wait() == -signal.SIGKILL
    for pid in alive(await family_of(tmp_path)):  # the guardian is dead, so the test removes them
        os.kill(pid, signal.SIGKILL)


async def test_no_descendant_outlives_the_command(tmp_path: Path) -> None:
    process, pids = await family(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    assert alive(pids) == []


async def test_stop_lets_the_command_end_in_order(tmp_path: Path) -> None:
    process = await spawn(
        ["sh", "-c", "trap 'exit 7' TERM; touch ready; while :; do sleep 0.01; done"], folder=tmp_path
    )
    await eventually((tmp_path / "ready").exists)
    assert await process.stop() == 7


async def test_stop_kills_a_command_that_ignores_the_signal(tmp_path: Path) -> None:
    process = await spawn(["sh", "-c", "trap '' TERM; touch ready; while :; do sleep 0.01; done"], folder=tmp_path)
    await eventually((tmp_path / "ready").exists)
    assert await process.stop(grace_seconds=0.2) == -signal.SIGKILL


async def test_a_terminated_guardian_passes_the_signal_on(tmp_path: Path) -> None:
    process = await spawn(
        ["sh", "-c", "trap 'exit 7' TERM; touch ready; while :; do sleep 0.01; done"], folder=tmp_path
    )
    await eventually((tmp_path / "ready").exists)
    os.kill(process.guardian_pid, signal.SIGTERM)
    assert await process.wait() == 7


@pytest.mark.parametrize("code", [0, 1, 3, 130, 255])
async def test_the_exit_code_is_the_commands_own(code: int) -> None:
    process = await spawn(["sh", "-c", f"exit {code}"])
    assert await process.wait() == code
    assert process.returncode == code
    assert await process.stop() == code, "stopping what has ended does nothing"


async def test_several_may_await_the_same_end() -> None:
    process = await spawn(["sleep", "300"])
    waiting = [asyncio.create_task(process.wait()) for _ in range(3)]
    await process.kill()
    assert await asyncio.gather(*waiting) == [-signal.SIGKILL] * 3


async def test_a_command_that_cannot_be_executed_is_named() -> None:
    with pytest.raises(EmbeddedError, match="/no/such/program could not be executed: No such file"):
        await spawn(["/no/such/program"])


async def test_a_cancelled_spawn_leaves_nothing(tmp_path: Path) -> None:
    starting = asyncio.create_task(spawn(["sh", "-c", "echo $$ > pid; exec sleep 300"], folder=tmp_path))
    await asyncio.sleep(0)  # its guardian is being started now
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    if (tmp_path / "pid").exists():  # when it got as far as that
        assert alive([int((tmp_path / "pid").read_text() or 0)]) == []


async def test_output_goes_where_it_is_sent_and_standard_input_is_empty(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    process = await spawn(
        ["sh", "-c", "cat; echo out; echo err >&2; pwd; echo $NAME"],
        environment={"NAME": "forge", "PATH": os.defpath},
        folder=tmp_path,
        output=writing,
    )
    os.close(writing)
    await process.wait()
    with os.fdopen(reading) as lines:
        assert lines.read().split() == ["out", "err", str(tmp_path), "forge"]


async def test_ctrl_c_at_the_terminal_reaches_only_the_parent() -> None:
    process = await spawn(["sleep", "300"])
    try:
        assert os.getpgid(process.pid) != os.getpgid(0)
        assert os.getsid(process.guardian_pid) != os.getsid(0)
    finally:
        await process.kill()


async def test_the_end_of_the_starting_thread_is_not_our_end() -> None:
    """The pitfall of a parent death signal, which the kernel sends when the forking thread ends."""
    process = run_blocking(spawn(["sleep", "300"]))
    stopped = asyncio.create_task(process.wait())
    finished, _ = await asyncio.wait({stopped}, timeout=0.3)
    assert not finished
    assert identity(process.pid)
    assert await process.kill() == -signal.SIGKILL


async def test_a_held_lock_is_free_once_the_last_descendant_is_gone(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path, "test")
    await lock.acquire()
    process = await spawn(["sleep", "300"], held_fds=[lock.fileno()])
    (tmp_path / "lock").write_text("")  # as if its owner were dead: then the guardian alone holds it
    lock.release()
    late = asyncio.create_task((second := FolderLock(tmp_path, "test")).acquire())
    await asyncio.wait({late}, timeout=0.2)
    assert not late.done()
    await process.kill()
    await late
    second.release()


async def test_the_command_inherits_no_descriptor_but_the_standard_ones(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path, "test")
    await lock.acquire()
    process = await spawn(["sleep", "300"], held_fds=[lock.fileno()])
    try:
        descriptors = Path(f"/proc/{process.pid}/fd")  # exec closes one after the other
        await eventually(lambda: sorted(fd.name for fd in descriptors.iterdir()), until=["0", "1", "2"].__eq__)
    finally:
        await process.kill()
        lock.release()
