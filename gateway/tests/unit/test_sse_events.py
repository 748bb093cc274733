"""History and live events are merged, and each client gets each event once."""

import json
from datetime import UTC, datetime, timedelta

from dreamforge.contracts.events import CancelRequested, Event, JobCancelled, StepProgressed
from dreamforge.contracts.log.envelope import seal
from dreamforge.gateway.events.hub import Subscription
from dreamforge.gateway.events.sse import SseEvent, StreamCursor, merge, sse_event_of
from dreamforge.gateway.http.cursor import EventCursor
from dreamforge.runtime.log.message import LogMessage

T0 = datetime(2026, 11, 23, tzinfo=UTC)


def stored(event: Event, sequence: int) -> LogMessage:
    envelope = seal(event, entity_id="J", event_id="e", source="/test")
    return LogMessage(envelope.subject, envelope.headers, envelope.data, sequence)


def encoded(event: Event, sequence: int) -> SseEvent:
    found = sse_event_of(stored(event, sequence))
    assert found is not None
    return found


def step(sequence: int, seconds: float = 0) -> SseEvent:
    at = T0 + timedelta(seconds=seconds)
    event = StepProgressed(
        at=at, attempt=1, image_index=0, images=1, step=sequence, steps=9, elapsed_seconds=0, eta_seconds=0
    )
    return encoded(event, sequence)


ASKED = encoded(CancelRequested(at=T0 + timedelta(seconds=2)), 10)
ENDED = encoded(JobCancelled(at=T0, attempt=1, stage="running"), 20)  # its clock is behind, and it is still the end


def test_a_frame_is_the_event_with_its_place() -> None:
    head, event, data, *rest = StreamCursor(EventCursor(3, 4)).frames([ASKED])[0].decode().split("\n")
    assert (head, event, rest) == ("id: 10-4", "event: cancel-requested", ["", ""])
    assert json.loads(data.removeprefix("data: ")) == {
        "job_id": "J",
        "sequence": 10,
        "type": "dreamforge.job.cancel-requested.v1",
        "at": "2026-11-23T00:00:02Z",
        "attempt": 0,
        "requested_by": "client",
    }


def test_time_interleaves_and_the_end_is_last() -> None:
    first, second, third = step(1, 1), step(2, 3), step(3, 9)
    assert merge([ASKED, ENDED], [first, second, third]) == [first, ASKED, second, third, ENDED]
    assert merge([ASKED], [third]) == [ASKED, third]
    assert merge([], [first]) == [first]


def test_what_was_seen_is_not_sent_again_and_nothing_follows_the_end() -> None:
    position = StreamCursor(EventCursor(10, 1))
    frames = position.frames([step(1), ASKED, step(2), step(2), ENDED, step(3)])
    assert [frame.split(b"\n")[0] for frame in frames] == [b"id: 10-2", b"id: 20-2"]
    assert position.ended


def test_an_end_that_was_seen_ends_all_the_same() -> None:
    position = StreamCursor(EventCursor(10**6, 0))
    assert position.frames([ENDED]) == []
    assert position.ended


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
