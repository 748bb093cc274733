"""A runner that leaves is gone at once, whatever heartbeat was about to be sent."""

import asyncio
import threading
from dataclasses import dataclass, field

import pytest

from dreamforge.contracts.fleet import Device, Heartbeat
from dreamforge.gpu_runner.supervisor import heartbeat as heartbeat_module
from dreamforge.gpu_runner.supervisor.heartbeat import HeartbeatPublisher
from dreamforge.runtime import clock
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.testing import eventually

DEVICE = Device(kind="cpu", name="a cpu", total_bytes=1)


def heartbeat() -> Heartbeat:
    return Heartbeat(
        runner_id="r1",
        instance_id="i1",
        at=clock.now(),
        renderer="synthetic",
        device=DEVICE,
        budget_bytes=1,
        free_bytes=1,
        slots=1,
        model_ids=(),
    )


@dataclass
class SlowDevice:
    """Answers when it is let to, as a driver that is busy does."""

    asked: int = 0
    may_answer: threading.Event = field(default_factory=threading.Event)

    def refresh(self) -> None:
        self.asked += 1
        self.may_answer.wait(30)


async def test_no_beat_follows_the_last_word(bus: Bus) -> None:
    device = SlowDevice()
    device.may_answer.set()
    publisher = HeartbeatPublisher(bus, "r1", heartbeat=heartbeat, refresh=device.refresh)
    publishing = asyncio.create_task(publisher.run())

    async def said() -> list[str]:
        stored = await direct_get.last_of_each(bus, "KV_runners", "$KV.runners.r1")
        return [message.headers.get("KV-Operation", "beat") for message in stored]

    await eventually(said, until=lambda found: found == ["beat"])
    device.may_answer.clear()
    before = device.asked
    publisher.notify()
    await eventually(lambda: device.asked > before)
    await publisher.stop()
    assert await said() == ["PURGE"]
    device.may_answer.set()
    await asyncio.wait_for(publishing, 10)
    assert await said() == ["PURGE"]


async def test_what_the_next_assignment_waits_for_is_told_at_once(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat_module, "MIN_INTERVAL_SECONDS", 60.0)
    beats: list[int] = []

    def counted() -> Heartbeat:
        beats.append(1)
        return heartbeat()

    publisher = HeartbeatPublisher(bus, "r1", heartbeat=counted, refresh=lambda: None)
    publishing = asyncio.create_task(publisher.run())
    await eventually(lambda: len(beats), until=lambda number: number == 1)
    publisher.notify_at_once()
    await eventually(lambda: len(beats), until=lambda number: number == 2)
    publishing.cancel()
