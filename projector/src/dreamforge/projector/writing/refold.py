"""Folds one job again from its beginning, over whatever its rows are."""

from contextlib import aclosing

from dreamforge.contracts.log.streams import JOBS
from dreamforge.contracts.log.subjects import job_filter
from dreamforge.projector.folding.decode import Decoded, decode
from dreamforge.projector.writing.folds import JobsFold
from dreamforge.projector.writing.stream_projection import StreamProjection
from dreamforge.runtime.log.archived import with_archived
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.log.message import LogMessage


async def refold(bus: Bus, projection: StreamProjection, job_id: str) -> list[Decoded]:
    """Replace the rows of a job by the fold of its events up to the checkpoint; returns what could not be folded.

    Errors: DependencyAway, ArchiveBroken, psycopg.Error.
    """
    fold, session = projection.fold, projection.session
    assert isinstance(fold, JobsFold)
    async with session.busy:  # held before reading, so that no event is folded between the read and the write
        covering = projection.sequence
        messages = await _messages(bus, job_id, covering)
        decoded = decode(await with_archived(job_id, messages, projection.archive))
        folded = fold.refold(job_id, [item.entry for item in decoded if item.entry])
        async with session.connection.transaction(), session.connection.cursor() as cursor:
            await folded.write(cursor)
        folded.committed()
    refused = {each.sequence: each.reason for each in folded.refused}
    return [
        Decoded(item.message, None, refused.get(item.message.sequence, item.problem))
        for item in decoded
        if item.entry is None or item.message.sequence in refused
    ]


async def _messages(bus: Bus, job_id: str, covering: int) -> list[LogMessage]:
    """All that the log has of a job up to a sequence, forged events on the subjects of real ones among them."""
    found: list[LogMessage] = []
    follower = Follower(bus, JOBS.name, filters=(job_filter(job_id),))
    async with aclosing(follower.batches()) as batches:
        async for batch in batches:
            found += [message for message in batch.messages if message.sequence <= covering]
            if batch.pending == 0:
                break
    return found
