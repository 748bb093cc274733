"""One bad message never stops the others: it is parked with its reason, once, and the stream goes on."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY

from dreamforge.contracts.events import JobRequested
from dreamforge.contracts.installation_events import MessageParked
from dreamforge.contracts.jobs.decisions import FinishAttempt
from dreamforge.contracts.log.envelope import unseal
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime import clock
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import Follower

Rows = Callable[..., Awaitable[list[dict[str, Any]]]]
Folded = Callable[..., Awaitable[None]]
REQUESTED = {"ce-type": JobRequested.TYPE}


async def parked(bus: Bus) -> list[MessageParked]:
    """The messages in PARKED, by their original sequence."""
    async for batch in Follower(bus, "PARKED").batches():
        events = [unseal(m.subject, m.headers, m.data, sequence=m.sequence).event for m in batch.messages]
        return [event for event in events if isinstance(event, MessageParked)]
    raise AssertionError("a follower always says something")


def parked_count() -> float:
    return REGISTRY.get_sample_value("forge_parked_messages_total", {"stream": "JOBS"}) or 0.0


async def test_an_unreadable_message_is_parked_and_the_stream_continues(
    settings: ProjectorSettings, bus: Bus, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    before = parked_count()
    await story.request("A")
    await bus.js.publish("forge.jobs.X.0.requested", b"\xff\x00 not json", headers=REQUESTED)
    await bus.js.publish("forge.jobs.X.0.started", b"{}", headers={"ce-type": "dreamforge.job.exploded.v9"})
    await bus.js.publish("forge.jobs.X", b"")
    last = await story.request("B")
    async with projecting(settings):
        await folded(last)

    assert [row["job_id"] for row in await rows("SELECT job_id FROM jobs ORDER BY 1")] == ["A", "B"]
    found = await parked(bus)
    assert [(event.stream, event.sequence, event.service) for event in found] == [
        ("JOBS", sequence, "projector") for sequence in (2, 3, 4)
    ]
    assert found[0].data == b"\xff\x00 not json"
    assert "unknown type" in found[1].reason
    assert found[2].reason == "header ce-type is missing"
    assert parked_count() == before + 3


async def test_a_value_that_postgres_cannot_hold_is_parked_alone(
    settings: ProjectorSettings, bus: Bus, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    for number in range(40):  # enough that the batch goes through COPY
        await story.request(f"good-{number:02}")
    nul = await story.request("nul", prompt="a \0 cat")
    await story.start("nul")
    huge = story.artifact(1, 0).model_copy(update={"size_bytes": 2**70})
    await story.request("huge", images=1)
    await story.start("huge")
    await story.store.execute("huge", FinishAttempt(clock.now(), 1, (huge,), 1.0))
    await story.request("last")
    last = await story.start("last")
    async with projecting(settings):
        await folded(last)

    good = await rows("SELECT count(*) AS n FROM jobs WHERE job_id LIKE 'good-%%' OR job_id = 'last'")
    assert good[0]["n"] == 41
    assert await rows("SELECT status FROM jobs WHERE job_id = 'huge'") == [{"status": "succeeded"}]
    assert await rows("SELECT artifact_id FROM artifacts") == []
    found = {event.sequence: event.reason for event in await parked(bus)}
    assert "NUL" in found[nul] or "\\u0000" in found[nul] or "Unicode" in found[nul]
    assert "no request of the job comes before it" in found[nul + 1]
    assert len(found) == 4, found


async def test_a_message_is_parked_once_though_it_is_read_again(
    settings: ProjectorSettings, bus: Bus, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    await bus.js.publish("forge.jobs.X.0.requested", b"?", headers=REQUESTED)
    last = await story.request("A")
    async with projecting(settings):
        await folded(last)
    await rows("UPDATE checkpoints SET sequence = 0 WHERE stream = 'JOBS' RETURNING 1")
    await rows("DELETE FROM events RETURNING 1")
    async with projecting(settings):
        await folded(last)

    assert len(await parked(bus)) == 1


@pytest.mark.parametrize("stream", ["forge.steps.J", "forge.runners.r.registered", "forge.models.m.registered"])
async def test_every_stream_parks_unreadable_messages(
    settings: ProjectorSettings, bus: Bus, folded: Folded, projecting: Any, stream: str
) -> None:
    ack = await bus.js.publish(stream, b'{"half": ', headers={"ce-type": "dreamforge.step.progressed.v1"})
    async with projecting(settings):
        await folded(ack.seq, ack.stream)

    assert [(event.stream, event.subject) for event in await parked(bus)] == [(ack.stream, stream)]
