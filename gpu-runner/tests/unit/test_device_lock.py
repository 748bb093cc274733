"""Two runners do not render on one card unless both were told to share it."""

import asyncio
import sys
from pathlib import Path

import pytest

from dreamforge.gpu_runner.machine import device_lock
from dreamforge.gpu_runner.machine.device import LocalDevice
from dreamforge.gpu_runner.machine.device_lock import DeviceInUse, DeviceLock, lock_folder
from dreamforge.gpu_runner.supervisor.heartbeat import budget_bytes

CARD = LocalDevice("cuda", "NVIDIA Test", "600.1", 80, 79, uuid="GPU-1")
OTHER = LocalDevice("cuda", "NVIDIA Test", "600.1", 80, 79, uuid="GPU-2")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_lock, "WAIT_SECONDS", 0.02)


async def test_the_second_runner_is_told_who_has_the_card(tmp_path: Path) -> None:
    first = DeviceLock(tmp_path / "locks", CARD)
    await first.acquire("runner a (process 7)")
    await DeviceLock(tmp_path / "locks", OTHER).acquire("runner b (process 8)")
    for shares in (1, 2):
        with pytest.raises(DeviceInUse, match=r"GPU-1.*runner a .process 7.*FORGE_RUNNER_DEVICE_SHARES"):
            await DeviceLock(tmp_path / "locks", CARD, shares=shares).acquire("runner c")
    first.release()
    await DeviceLock(tmp_path / "locks", CARD).acquire("runner c")


async def test_runners_that_share_a_card_are_as_many_as_they_were_told(tmp_path: Path) -> None:
    locks = [DeviceLock(tmp_path / "locks", CARD, shares=2) for _ in range(2)]
    for number, lock in enumerate(locks):
        await lock.acquire(f"runner {number}")
    for shares in (1, 2):
        with pytest.raises(DeviceInUse, match="runner 0, runner 1"):
            await DeviceLock(tmp_path / "locks", CARD, shares=shares).acquire("runner c")
    assert budget_bytes(CARD, {}, 2) == 40


async def test_a_card_is_free_when_its_runner_was_killed(tmp_path: Path) -> None:
    make = "LocalDevice('cuda', 'x', '', 1, 1, uuid='GPU-1')"
    script = (
        "import asyncio, sys, pathlib, os, signal\n"
        "from dreamforge.gpu_runner.machine.device import LocalDevice\n"
        "from dreamforge.gpu_runner.machine.device_lock import DeviceLock\n"
        f"lock = DeviceLock(pathlib.Path(sys.argv[1]), {make})\n"
        "asyncio.run(lock.acquire('one that dies'))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(tmp_path / "locks"))
    assert await process.wait() == -9
    await DeviceLock(tmp_path / "locks", CARD).acquire("the next")


def test_locks_are_where_every_runner_of_a_user_looks() -> None:
    assert lock_folder({"XDG_RUNTIME_DIR": "/run/user/7"}) == Path("/run/user/7/dreamforge")
    assert "dreamforge-" in str(lock_folder({}))
