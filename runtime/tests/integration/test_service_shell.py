"""A service as a process: settings, readiness from the beginning, stop signals, drain, exit status."""

import asyncio
import json
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from dreamforge.runtime.service.settings import EXIT_SETTINGS
from dreamforge.runtime.testing import eventually

SERVICE = """
import asyncio, os, sys
from dreamforge.contracts.errors import BrokerUnfit, JobNotFound
from dreamforge.runtime.service import shell
from dreamforge.runtime.service.settings import CommonSettings

async def start(settings, lifetime):
    print("starting", flush=True)
    if os.environ["BEHAVIOUR"] == "unfit":
        raise BrokerUnfit(reason="it is too old")
    if os.environ["BEHAVIOUR"] == "fails":
        raise JobNotFound(job_id="a job")
    if os.environ["BEHAVIOUR"] == "waits":
        await asyncio.Event().wait()

    async def ready():
        return None

    async def drain():
        print("draining", flush=True)
        if os.environ["BEHAVIOUR"] == "drains forever":
            await asyncio.Event().wait()

    lifetime.ready_when("log", ready)
    lifetime.on_close(drain)
    print("started", flush=True)

shell.main(shell.Service("example", CommonSettings, start, {"log": "not folded yet"}))
"""


@dataclass
class Process:
    """An example service, with the lines that it printed and logged."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    reading: "list[asyncio.Task[None]]" = field(default_factory=list)

    async def printed(self, text: str) -> str:
        return await eventually(lambda: next((line for line in self.lines if text in line), ""), 20)

    async def status(self) -> int:
        status = await asyncio.wait_for(self.process.wait(), 20)
        await asyncio.gather(*self.reading)
        return status

    async def readyz(self) -> dict[str, object]:
        line = json.loads(await self.printed("health and metrics on"))
        address = line["body"].rsplit(" ", 1)[-1]
        return await asyncio.to_thread(_get, f"{address}/readyz")


def _get(url: str) -> dict[str, object]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            found: dict[str, object] = json.loads(answer.read())
    except urllib.error.HTTPError as error:
        found = json.loads(error.read())
    return found


Start = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    processes: list[Process] = []

    async def start(behaviour: str, **settings: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SERVICE),
            env=os.environ | {"BEHAVIOUR": behaviour} | settings,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        started = Process(process)
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            started.reading.append(asyncio.create_task(_read(stream, started.lines)))
        processes.append(started)
        return started

    yield start
    for each in processes:
        if each.process.returncode is None:
            each.process.kill()
        await each.status()


async def _read(stream: asyncio.StreamReader, lines: list[str]) -> None:
    async for line in stream:
        lines.append(line.decode().strip())


async def test_it_is_ready_only_once_its_start_has_set_its_checks(start: Start) -> None:
    waiting, started = await start("waits"), await start("runs")
    await started.printed("started")
    assert await started.readyz() == {"ready": True, "checks": {"log": "ok"}, "clock_skew_seconds": 0.0}
    found = await waiting.readyz()
    assert found["ready"] is False
    assert "not folded yet" in str(found["checks"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_signal_drains_and_exits_with_0(start: Start, number: signal.Signals) -> None:
    service = await start("runs")
    await service.printed("started")
    service.process.send_signal(number)
    assert await service.status() == 0
    assert "draining" in service.lines
    assert any("example stopped" in line for line in service.lines)


async def test_a_start_that_waits_for_a_dependency_can_be_stopped(start: Start) -> None:
    service = await start("waits")
    await service.printed("starting")
    service.process.send_signal(signal.SIGTERM)
    assert await service.status() == 0


async def test_a_second_signal_ends_it_at_once(start: Start) -> None:
    service = await start("drains forever")
    await service.printed("started")
    service.process.send_signal(signal.SIGTERM)
    await service.printed("draining")
    service.process.send_signal(signal.SIGTERM)
    assert await service.status() == 128 + signal.SIGTERM


async def test_another_error_of_ours_is_status_1(start: Start) -> None:
    assert await (await start("fails")).status() == 1


async def test_a_server_that_does_not_fit_is_one_line_and_the_status_of_wrong_settings(start: Start) -> None:
    service = await start("unfit")
    assert await service.status() == EXIT_SETTINGS
    critical = [json.loads(line) for line in service.lines if '"CRITICAL"' in line]
    assert len(critical) == 1
    assert critical[0]["body"].startswith("example cannot run: ")
    assert "it is too old" in critical[0]["body"]
    assert not any("Traceback" in line for line in service.lines)


async def test_a_wrong_setting_is_one_line_and_a_status_of_its_own(start: Start) -> None:
    service = await start("runs", FORGE_HEALTH_PORT="70000")
    assert await service.status() == EXIT_SETTINGS
    (line,) = service.lines
    assert line.startswith("FORGE_HEALTH_PORT is '70000': ")
