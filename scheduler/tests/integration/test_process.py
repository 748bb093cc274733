"""`python -m dreamforge.scheduler` as a process: waits for NATS, is ready after reading the log, stops fast."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from dreamforge.runtime.embedded import NatsServer
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.bus import connect
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.streams import declare_streams


@dataclass
class Process:
    """A scheduler process and what it says."""

    process: asyncio.subprocess.Process
    lines: list[dict[str, object]] = field(default_factory=list)

    async def read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            with contextlib.suppress(ValueError):
                self.lines.append(json.loads(line))

    def said(self, text: str) -> str:
        return next((str(line["body"]) for line in self.lines if text in str(line["body"])), "")

    async def health(self, path: str) -> int:
        address = (await eventually(lambda: self.said("health and metrics on"), 30)).rsplit(" ", 1)[-1]
        return await asyncio.to_thread(self._get, address + path)

    @staticmethod
    def _get(url: str) -> int:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code


@pytest.fixture
async def start(nats_server: NatsServer) -> AsyncIterator[object]:
    processes: list[tuple[Process, asyncio.Task[None]]] = []
    await declare_streams(nats_server.url)

    async def start() -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "dreamforge.scheduler",
            env=os.environ | nats_server.settings_env(),
            stderr=asyncio.subprocess.PIPE,
        )
        started = Process(process)
        processes.append((started, asyncio.create_task(started.read())))
        return started

    yield start
    for started, reading in processes:
        with contextlib.suppress(ProcessLookupError):
            started.process.kill()
        await started.process.wait()
        await reading


async def test_it_waits_for_nats_and_says_so_and_is_ready_only_then(start, nats_server):
    await nats_server.kill()
    scheduler = await start()
    assert await scheduler.health("/readyz") == 503
    assert await scheduler.health("/healthz") == 200
    await eventually(lambda: scheduler.said("NATS"), 10)
    await nats_server.restart()
    await eventually(lambda: scheduler.said("scheduler is ready"), 20)
    await eventually(lambda: scheduler.health("/readyz"), 10, until=lambda status: status == 200)


async def test_it_stops_while_it_waits_for_nats(start, nats_server):
    await nats_server.kill()
    scheduler = await start()
    await scheduler.health("/healthz")
    scheduler.process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(scheduler.process.wait(), 10) == 0


async def test_sigterm_hands_over_in_under_a_second(start, capsys):
    first = await start()
    await eventually(lambda: first.said("this scheduler leads"), 20)
    second = await start()
    await eventually(lambda: second.said("scheduler is ready"), 20)
    before = time.monotonic()
    first.process.send_signal(signal.SIGTERM)
    await eventually(lambda: second.said("this scheduler leads"), 5)
    handed_over = time.monotonic() - before
    assert await asyncio.wait_for(first.process.wait(), 5) == 0
    with capsys.disabled():
        print(f"\nSIGTERM -> the other leads: {handed_over:.2f} s")
    assert handed_over < 1


async def test_a_killed_leader_is_replaced_in_two_seconds(start, capsys):
    first = await start()
    await eventually(lambda: first.said("this scheduler leads"), 20)
    second = await start()
    await eventually(lambda: second.said("scheduler is ready"), 20)
    before = time.monotonic()
    first.process.kill()
    await eventually(lambda: second.said("this scheduler leads"), 10)
    took_over = time.monotonic() - before
    with capsys.disabled():
        print(f"\nkill -9 -> the other leads: {took_over:.2f} s")
    assert took_over < 2


async def test_a_leader_frozen_past_its_lease_stands_by_when_it_wakes(start):
    first = await start()
    await eventually(lambda: first.said("this scheduler leads"), 20)
    second = await start()
    await eventually(lambda: second.said("scheduler is ready"), 20)
    first.process.send_signal(signal.SIGSTOP)
    await eventually(lambda: second.said("this scheduler leads"), 10)
    first.process.send_signal(signal.SIGCONT)
    await eventually(lambda: first.said("this scheduler stands by"), 10)
    assert not second.said("this scheduler stands by")


async def test_a_lone_leader_frozen_past_its_lease_leads_again(start, nats_server):
    only = await start()
    await eventually(lambda: only.said("this scheduler leads"), 20)
    bus = await connect(nats_server.url, "test")
    only.process.send_signal(signal.SIGSTOP)

    async def holds():
        found = await direct_get.last_of_each(bus, "KV_leaders", "$KV.leaders.scheduler")
        return bool(found and found[-1].data)

    await eventually(holds, 10, until=lambda held: not held)
    only.process.send_signal(signal.SIGCONT)
    await eventually(holds, 10)
    await bus.close()
