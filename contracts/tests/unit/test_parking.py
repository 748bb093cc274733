"""Parked messages stand until they are dealt with, and are counted, not repeated."""

from datetime import UTC, datetime

from dreamforge.contracts.installation_events import MessageParked, ParkedSettled
from dreamforge.contracts.log.envelope import Recorded
from dreamforge.contracts.log.parking import unsettled

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def parked(sequence: int, at: int) -> Recorded:
    event = MessageParked(at=NOW, stream="JOBS", sequence=sequence, subject="s", service="projector", reason="r")
    return Recorded(event, "projector", at, f"e{at}")


def settled(parked_sequence: int, at: int) -> Recorded:
    return Recorded(ParkedSettled(at=NOW, parked_sequence=parked_sequence, action="drop"), "projector", at, f"e{at}")


def test_a_message_parked_again_counts_up_under_its_first_name() -> None:
    assert [(p.sequence, p.count) for p in unsettled([parked(7, 1), parked(9, 2), parked(7, 3)]).values()] == [
        (1, 2),
        (2, 1),
    ]


def test_what_was_settled_stands_no_more_until_it_is_parked_again() -> None:
    assert unsettled([parked(7, 1), settled(1, 2)]) == {}
    assert list(unsettled([parked(7, 1), settled(1, 2), parked(7, 3)])) == [3]
    assert unsettled([settled(5, 1)]) == {}
