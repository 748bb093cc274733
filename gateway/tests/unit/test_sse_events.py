"""History and live events are merged, and each client gets each event once."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.events import (
    CancelRequested,
    Decision,
    Event,
    JobAssigned,
    JobCancelled,
    JobRequested,
    JobStarted,
    JobSucceeded,
    StepProgressed,
)
from dreamforge.contracts.log.envelope import seal
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gateway.events.hub import Hub, Subscription
from dreamforge.gateway.events.live import LiveStream
from dreamforge.gateway.events.sse import Acceptance, SseEvent, StreamCursor, accepted, merge, sse_event_of
from dreamforge.gateway.http.cursor import EventCursor
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.message import LogMessage

T0 = datetime(2026, 11, 23, tzinfo=UTC)


def stored(event: Event, sequence: int) -> LogMessage:
    envelope = seal(event, entity_id="J", event_id="e", source="/test")
    return LogMessage(envelope.subject, envelope.headers, envelope.data, sequence)


def encoded(event: Event, sequence: int) -> SseEvent:
    found = sse_event_of(stored(event, sequence))
    assert found is not None
    return found


def step(sequence: int, seconds: float = 0, *, attempt: int = 1, of: str | None = "r1") -> SseEvent:
    at = T0 + timedelta(seconds=seconds)
    event = StepProgressed(
        at=at, attempt=attempt, image_index=0, images=1, step=sequence, steps=9, elapsed_seconds=0, eta_seconds=0,
        written_by=of,
    )  # fmt: skip
    return encoded(event, sequence)


REQUEST = RenderRequest(
    model_id="m", preset="p", prompt="a cat", width_px=64, height_px=64, steps=4, guidance_scale=1, seed=1
)
DECISION = Decision(waited_seconds=0, effective_priority=1, queue_length=0, required_bytes=0, candidates=())
REQUESTED = encoded(JobRequested(at=T0, tenant="t", request=REQUEST), 1)
ASSIGNED = encoded(
    JobAssigned(
        at=T0, attempt=1, runner_id="r1", instance_id="i", preset="p", estimated_vram_bytes=1, decision=DECISION
    ),
    2,
)
STARTED = encoded(JobStarted(at=T0, attempt=1, runner_id="r1", instance_id="i", written_by="r1"), 3)
BEGUN = [REQUESTED, ASSIGNED, STARTED]
ASKED = encoded(CancelRequested(at=T0 + timedelta(seconds=2), attempt=1), 10)
ENDED = encoded(JobCancelled(at=T0, attempt=1, stage="running"), 20)  # its clock is behind, and it is still the end


def ids_of(frames: list[bytes]) -> list[str]:
    return [frame.split(b"\n")[0].decode().removeprefix("id: ") for frame in frames]


def test_a_frame_is_the_event_with_its_place() -> None:
    head, event, data, *rest = StreamCursor(EventCursor(3, 4)).frames([*BEGUN, ASKED])[0].decode().split("\n")
    assert (head, event, rest) == ("id: 10-4", "event: cancel-requested", ["", ""])
    assert json.loads(data.removeprefix("data: ")) == {
        "job_id": "J",
        "sequence": 10,
        "type": "dreamforge.job.cancel-requested.v1",
        "at": "2026-11-23T00:00:02Z",
        "attempt": 1,
        "requested_by": "client",
    }


def test_time_interleaves_and_the_end_is_last() -> None:
    first, second, third = step(1, 1), step(2, 3), step(3, 9)
    assert merge([ASKED, ENDED], [first, second, third]) == [first, ASKED, second, third, ENDED]
    assert merge([ASKED], [third]) == [ASKED, third]
    assert merge([], [first]) == [first]


def test_what_was_seen_is_not_sent_again_and_nothing_follows_the_end() -> None:
    position = StreamCursor(EventCursor(10, 1))
    frames = position.frames([*BEGUN, step(1), ASKED, step(2), step(2), ENDED, step(3)])
    assert ids_of(frames) == ["10-2", "20-2"]
    assert position.ended


def test_an_end_that_was_seen_ends_all_the_same() -> None:
    position = StreamCursor(EventCursor(10**6, 0))
    assert position.frames([*BEGUN, ENDED]) == []
    assert position.ended


def test_what_a_foreign_runner_writes_is_not_sent_and_ends_no_stream() -> None:
    forged = JobSucceeded(at=T0, attempt=1, artifacts=(), render_seconds=0, written_by="r2")
    told = [*BEGUN, encoded(forged, 4), step(1, of="r2"), step(2), step(3, of=None), ASKED, ENDED]
    frames = StreamCursor(EventCursor(0, 0)).frames(Acceptance().passed(told))
    assert ids_of(frames) == ["1-0", "2-0", "3-0", "3-2", "3-3", "10-3", "20-3"]
    assert [each.sequence for each in accepted([*BEGUN, encoded(forged, 4), ENDED])] == [1, 2, 3, 20]


def test_a_step_that_comes_before_its_assignment_waits_for_it() -> None:
    position, acceptance = StreamCursor(EventCursor(0, 0)), Acceptance()
    first = acceptance.passed([REQUESTED, step(5), step(6, of="r2"), step(7, attempt=9)])
    assert ids_of(position.frames(first)) == ["1-0"]
    assert ids_of(position.frames(acceptance.passed([ASSIGNED, STARTED, step(8)]))) == ["2-0", "2-5", "3-5", "3-8"]


@pytest.mark.parametrize(
    ("resumed", "read"),
    [
        pytest.param(EventCursor(), [step(8, 8), step(9, 9)], id="history was read before the loss was heard of"),
        pytest.param(EventCursor(3, 9), [step(9, 9)], id="resumed after another gateway had sent them"),
    ],
)
def test_steps_that_come_again_after_a_loss_are_sent_once(resumed: EventCursor, read: list[SseEvent]) -> None:
    subscription = Subscription(("J",), limit_bytes=10**6, reading_history=False)
    hub = Hub(cast(Bus, None), limit_streams=1, limit_bytes=1, heartbeat_seconds=1)
    live = LiveStream(hub, subscription, StreamCursor(resumed), steps_of_none)
    sent = ids_of(live.frames([*BEGUN, *read]))
    subscription.lose(7)
    for each in (step(8, 8), step(9, 9), step(10, 10)):
        subscription.push(each)
    again = live.pull().decode()
    assert (sent[-2:], re.findall("id: (.*)", again)) == (["3-8", "3-9"] if len(read) == 2 else [], ["3-10"])


def test_a_later_step_with_the_number_of_one_that_was_lost_is_sent() -> None:
    position, acceptance = StreamCursor(EventCursor()), Acceptance()
    position.frames(acceptance.passed([*BEGUN, step(8, 8), step(9, 9)]))
    position.lose(8)
    assert ids_of(position.frames(acceptance.passed([step(9, 10)]))) == ["3-9"]


async def steps_of_none(_after: int, _job_id: str) -> list[SseEvent]:
    return []


def test_what_is_malformed_is_skipped() -> None:
    assert sse_event_of(LogMessage("forge.jobs.J.0.requested", {}, b"{}", 1)) is None
    assert sse_event_of(LogMessage("forge.jobs.J.0.requested", {"ce-type": "x"}, b"not json", 1)) is None


def test_a_subscription_never_holds_more_than_its_limit() -> None:
    cut: list[bool] = []
    subscription = Subscription(
        ("J",), limit_bytes=2 * len(ASKED.tail), on_overflow=lambda: cut.append(True), reading_history=False
    )
    for _ in range(2):
        subscription.push(ASKED)
    assert not cut
    subscription.push(ASKED)
    subscription.push(ASKED)
    assert (cut, subscription.overflowed, subscription.take()) == ([True], True, [])


def test_while_history_is_read_an_overflow_only_means_to_read_again() -> None:
    subscription = Subscription(("J",), limit_bytes=len(ASKED.tail))
    subscription.push(ASKED)
    subscription.push(ASKED)
    assert (subscription.missed, subscription.overflowed, subscription.take()) == (True, False, [])


def test_one_large_event_is_not_slowness() -> None:
    subscription = Subscription(("J",), limit_bytes=1, reading_history=False)
    subscription.push(ASKED)
    assert subscription.take() == [ASKED]


@pytest.mark.parametrize("error", [DependencyAway(dependency="nats", reason="is away"), RuntimeError("a bug")])
async def test_the_end_of_a_job_is_sent_also_where_its_last_steps_cannot_be_read(error: Exception) -> None:
    async def fails(_after: int, _job_id: str) -> list[SseEvent]:
        raise error

    subscription = Subscription(("J",), limit_bytes=10**6, reading_history=False)
    hub = Hub(cast(Bus, None), limit_streams=1, limit_bytes=1, heartbeat_seconds=1)
    live = LiveStream(hub, subscription, StreamCursor(EventCursor()), fails)
    live.frames(BEGUN)
    subscription.push(ENDED)
    subscription.wake.clear()
    assert (live.pull(), live.over) == (b"", False)
    await asyncio.wait_for(subscription.wake.wait(), 10)
    assert b"event: cancelled" in live.pull()
    assert live.over
