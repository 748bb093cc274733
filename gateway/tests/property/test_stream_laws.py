"""Whatever way history and live overlap, and wherever a client breaks off, it sees each event once and in order."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dreamforge.contracts.events import CancelRequested
from dreamforge.gateway.events.hub import Subscription
from dreamforge.gateway.events.sse import SseEvent, StreamCursor, merge
from dreamforge.gateway.http.cursor import EventCursor

T0 = datetime(2026, 11, 23, tzinfo=UTC)
ANY = CancelRequested(at=T0)  # which event it is does not matter here


@st.composite
def logs(draw: st.DrawFn) -> tuple[list[SseEvent], list[SseEvent]]:
    """A job's facts and steps, each with growing sequences and clocks that may disagree; the last fact is the end."""

    def stream(is_step: bool) -> list[SseEvent]:
        sequences = sorted(draw(st.sets(st.integers(1, 1000), min_size=1, max_size=20)))
        seconds = [draw(st.integers(0, 50)) for _ in sequences]
        return [
            SseEvent(
                s,
                is_step,
                not is_step and s == sequences[-1],
                T0 + timedelta(seconds=t),
                b"%d %d\n\n" % (is_step, s),
                ANY,
            )
            for s, t in zip(sequences, seconds, strict=True)
        ]

    return stream(False), stream(True)


def tails(frames: list[bytes]) -> list[bytes]:
    return [frame.partition(b"\n")[2] for frame in frames]


@given(logs(), st.data())
def test_any_overlap_of_history_and_live_is_sent_once(
    log: tuple[list[SseEvent], list[SseEvent]], data: st.DataObject
) -> None:
    facts, steps = log
    in_history = data.draw(st.integers(1, len(facts))), data.draw(st.integers(0, len(steps)))
    live_from = data.draw(st.integers(0, in_history[0])), data.draw(st.integers(0, in_history[1]))
    position = StreamCursor(EventCursor())
    frames = position.frames(merge(facts[: in_history[0]], steps[: in_history[1]]))
    if not position.ended:
        frames += position.frames(merge(facts[live_from[0] :], steps[live_from[1] :]))
        assert set(tails(frames)) == {m.tail for m in facts + steps}
    assert len(frames) == len(set(tails(frames)))
    assert tails(frames)[-1] == facts[-1].tail


@given(logs(), st.lists(st.integers(1, 9), max_size=30))
def test_any_resumption_sees_every_event_once(log: tuple[list[SseEvent], list[SseEvent]], breaks: list[int]) -> None:
    facts, steps = log
    cursor, seen = EventCursor(), []
    for count in [*breaks, 10**6]:
        position = StreamCursor(cursor)
        for event in merge(facts, [step for step in steps if step.sequence > cursor.steps]):
            if count == 0 or position.ended:
                break
            told = position.frames([event])
            seen += tails(told)
            count -= len(told)
        cursor = position.cursor
        if position.ended:
            break
    assert sorted(seen) == sorted(m.tail for m in facts + steps)
    assert seen[-1] == facts[-1].tail
    assert [t for t in seen if t.startswith(b"0")] == [m.tail for m in facts]
    assert [t for t in seen if t.startswith(b"1")] == [m.tail for m in steps]


def told(subscription: Subscription, position: StreamCursor) -> list[bytes]:
    """What a client's writer does when it is woken."""
    if (end := subscription.lost()) is not None:
        position.lose(end)
    return tails(position.frames(subscription.take()))


def some(sequence: int, word: str) -> SseEvent:
    return SseEvent(sequence, word != "fact", False, T0, f"{word} {sequence}".encode(), ANY)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=4), st.integers(0, 10), st.data())
def test_a_log_of_steps_that_loses_its_end_hides_no_new_step_and_repeats_no_fact(
    ends: list[int], resumed_at: int, data: st.DataObject
) -> None:
    subscription, position = Subscription(("J",), 10**6), StreamCursor(EventCursor(0, resumed_at))
    seen, step, facts = [], resumed_at, 0
    for era, end in enumerate([*ends, None]):
        written = []
        for number in range(data.draw(st.integers(0, 8))):
            step, facts = step + 1, facts + 1
            written.append(f"era{era} {step}".encode())
            for event in (some(step, f"era{era}"), some(facts, "fact")):
                subscription.push(event)
            if data.draw(st.booleans(), label=f"woken after {number}"):
                seen += told(subscription, position)
        if end is not None and end < step:
            step = end
            subscription.lose(step)
    seen += told(subscription, position)
    assert [tail for tail in seen if tail.startswith(b"fact")] == [
        b"fact %d" % number for number in range(1, facts + 1)
    ]
    assert len(seen) == len(set(seen))
    assert [tail for tail in seen if tail.startswith(b"era%d " % len(ends))] == written
