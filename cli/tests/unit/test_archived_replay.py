"""A replay of the log has each archived event once, wherever it begins and however much the log still has."""

from datetime import UTC, datetime

from dreamforge.cli.client.event_log import ArchivedJobs
from dreamforge.contracts.events import CancelRequested, JobArchived
from dreamforge.contracts.log.envelope import seal
from dreamforge.runtime.log.message import LogMessage

NOW = datetime(2026, 11, 28, tzinfo=UTC)
PLACE = JobArchived(
    at=NOW,
    object_key="archive/1",
    offset_bytes=0,
    size_bytes=1,
    sha256="0" * 64,
    events=4,
    first_sequence=1,
    last_sequence=7,
)


def message(sequence: int, event: CancelRequested | JobArchived) -> LogMessage:
    envelope = seal(event, entity_id="J", event_id=str(sequence), source="/test")
    return LogMessage(envelope.subject, envelope.headers, envelope.data, sequence)


EVENTS = tuple(message(sequence, CancelRequested(at=NOW, attempt=sequence)) for sequence in (1, 3, 4, 7))
ARCHIVED = message(9, PLACE)


class Archive:
    async def messages(self, job_id: str, archived: JobArchived) -> tuple[LogMessage, ...]:
        assert (job_id, archived) == ("J", PLACE)
        return EVENTS


async def replayed(log: tuple[LogMessage, ...], after: int) -> list[int]:
    jobs, found = ArchivedJobs(Archive()), list[int]()
    for each in log:
        if each.sequence > after:
            found += [before.sequence for before in await jobs.before(each, after)] + [each.sequence]
    return found


async def test_each_event_comes_once_however_many_the_log_has_not_lost_yet() -> None:
    for removed in range(len(EVENTS) + 1):
        assert sorted(await replayed((*EVENTS[removed:], ARCHIVED), 0)) == [1, 3, 4, 7, 9]
    assert await replayed((ARCHIVED,), 0) == [1, 3, 4, 7, 9]


async def test_nothing_before_the_place_where_a_replay_begins_comes() -> None:
    assert await replayed((ARCHIVED,), 3) == [4, 7, 9]
    assert await replayed((EVENTS[-1], ARCHIVED), 3) == [7, 4, 9]
