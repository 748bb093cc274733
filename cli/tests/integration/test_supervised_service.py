"""A service that ends is restarted, reported, and stopped on request."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from dreamforge.cli.stack.plan import ServiceSpec
from dreamforge.cli.stack.service import SupervisedService, no_more
from dreamforge.runtime.service.settings import EXIT_SETTINGS
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


# As a service does: begins, and goes on with the settings that it is given.
WAITS = """
import os, signal
from dreamforge.runtime.service.settings_on_stdin import take_settings
print("begun", flush=True)
take_settings()
print(os.environ["FORGE_NATS_URL"], flush=True)
signal.pause()
"""


class Calls:
    """The calls of a supervised service."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.output: list[str] = []
        self.starts = 0

    def on_start(self) -> None:
        self.starts += 1


def supervised(
    folder: Path, calls: Calls, code: str = SERVICE, settings: Callable[[], Awaitable[dict[str, str]]] = no_more
) -> SupervisedService:
    (folder / "dreamforge").mkdir()
    (folder / "dreamforge" / "flaky_test_service.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(folder), "MARK": str(folder / "mark")}
    spec = ServiceSpec("flaky", "flaky-test-service", "127.0.0.1", 1, {})
    log = folder / "flaky.log"
    return SupervisedService(
        spec,
        environment,
        log,
        on_event=calls.events.append,
        on_output=calls.output.append,
        on_start=calls.on_start,
        settings=settings,
    )


@pytest.mark.timeout(30)
async def test_a_crash_is_reported_and_followed_by_a_restart(tmp_path: Path) -> None:
    calls = Calls()
    service = supervised(tmp_path, calls)
    supervision = asyncio.create_task(service.supervise())
    try:
        await eventually(lambda: "life 1" in calls.output)
        assert calls.events == ["ended with code 3; restarting in 0.5 s"]
        assert calls.starts == 2
        running = service.running
        assert running is not None
        assert running.restarts == 1
        os.kill(running.pid, 0)
    finally:
        await service.stop()
        await supervision
    assert service.running is None
    assert calls.output == ["life 0", "life 1", "bye"]
    assert service.log_path.read_text() == "life 0\nlife 1\nbye\n"


async def test_a_service_begins_before_its_settings_are_known_and_gets_them_at_each_start(
    tmp_path: Path,
) -> None:
    calls = Calls()
    known: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def settings() -> dict[str, str]:
        return {"FORGE_NATS_URL": await asyncio.shield(known)}

    service = supervised(tmp_path, calls, WAITS, settings)
    supervision = asyncio.create_task(service.supervise())
    try:
        await eventually(lambda: calls.output == ["begun"])
        known.set_result("nats://here")
        await eventually(lambda: calls.output == ["begun", "nats://here"])
        running = service.running
        assert running is not None
        os.kill(running.pid, signal.SIGKILL)
        await eventually(lambda: calls.output == ["begun", "nats://here"] * 2)
    finally:
        await service.stop()
        await supervision


async def test_a_service_that_waits_for_its_settings_is_stopped(tmp_path: Path) -> None:
    calls = Calls()
    forever = asyncio.Event()

    async def settings() -> dict[str, str]:
        await forever.wait()
        return {}

    service = supervised(tmp_path, calls, WAITS, settings)
    supervision = asyncio.create_task(service.supervise())
    await eventually(lambda: calls.output == ["begun"])
    await service.stop()
    await supervision
    assert service.running is None
    assert not calls.events


async def test_a_service_that_refuses_its_settings_is_known_at_once(tmp_path: Path) -> None:
    calls = Calls()
    service = supervised(tmp_path, calls, SERVICE.replace("sys.exit(3)", f"sys.exit({EXIT_SETTINGS})"))
    supervision = asyncio.create_task(service.supervise())
    try:
        await eventually(lambda: service.settings_refused)
        assert "life 1" not in calls.output
        assert calls.events == ["cannot run with its settings; restarting in 0.5 s"]
    finally:
        await service.stop()
        supervision.cancel()


async def test_a_cancelled_supervision_leaves_no_process(tmp_path: Path) -> None:
    calls = Calls()
    service = supervised(tmp_path, calls)
    supervision = asyncio.create_task(service.supervise())
    await eventually(lambda: "life 1" in calls.output)
    running = service.running
    assert running is not None
    supervision.cancel()
    await asyncio.gather(supervision, return_exceptions=True)
    with pytest.raises(ProcessLookupError):
        os.kill(running.pid, 0)
