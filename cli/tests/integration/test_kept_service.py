"""A service that ends is started again, said so, and stopped when it is asked to."""

import asyncio
import os
from pathlib import Path

import pytest

from dreamforge.cli.stack.plan import ServiceSpec
from dreamforge.cli.stack.service import KeptService
from dreamforge.runtime.testing import eventually

# Ends with code 3 the first time, then stays; `dreamforge` is a namespace, so a test may add a service to it.
SERVICE = """
import os, signal, sys, pathlib
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
mark = pathlib.Path(os.environ["MARK"])
print("life", len(mark.read_text()) if mark.exists() else 0, flush=True)
mark.write_text((mark.read_text() if mark.exists() else "") + ".")
if len(mark.read_text()) == 1:
    sys.exit(3)
signal.sigwait([signal.SIGTERM])
print("bye", flush=True)
"""


class Ears:
    """What a kept service tells."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.heard: list[str] = []
        self.changes = 0

    def changed(self) -> None:
        self.changes += 1


def kept(folder: Path, ears: Ears) -> KeptService:
    (folder / "dreamforge").mkdir()
    (folder / "dreamforge" / "flaky_test_service.py").write_text(SERVICE)
    environment = {**os.environ, "PYTHONPATH": str(folder), "MARK": str(folder / "mark")}
    spec = ServiceSpec("flaky", "flaky-test-service", "127.0.0.1", 1, {})
    log = folder / "flaky.log"
    return KeptService(spec, environment, log, say=ears.said.append, listen=ears.heard.append, changed=ears.changed)


@pytest.mark.timeout(30)
async def test_a_crash_is_said_and_followed_by_a_new_life(tmp_path: Path) -> None:
    ears = Ears()
    service = kept(tmp_path, ears)
    keeper = asyncio.create_task(service.keep())
    try:
        await eventually(lambda: "life 1" in ears.heard)
        assert ears.said == ["ended with code 3; starting it again in 0.5 s"]
        assert ears.changes == 2
        running = service.running
        assert running is not None
        assert running.restarts == 1
        os.kill(running.pid, 0)
    finally:
        await service.stop()
        await keeper
    assert service.running is None
    assert ears.heard == ["life 0", "life 1", "bye"]
    assert service.log_path.read_text() == "life 0\nlife 1\nbye\n"


async def test_a_cancelled_keeper_leaves_no_process(tmp_path: Path) -> None:
    ears = Ears()
    service = kept(tmp_path, ears)
    keeper = asyncio.create_task(service.keep())
    await eventually(lambda: "life 1" in ears.heard)
    running = service.running
    assert running is not None
    keeper.cancel()
    await asyncio.gather(keeper, return_exceptions=True)
    with pytest.raises(ProcessLookupError):
        os.kill(running.pid, 0)
