"""The projection of one stream: follow, decode, fold, write, in batches that grow with the load."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import psycopg
from prometheus_client import Counter, Gauge, Histogram

from dreamforge.projector.folding.decode import Decoded, decode
from dreamforge.projector.parking import Park
from dreamforge.projector.writing.archived_events import with_archived_events
from dreamforge.projector.writing.buffer import BatchBuffer
from dreamforge.projector.writing.folds import Fold, Folded
from dreamforge.projector.writing.session import Session
from dreamforge.runtime import clock
from dreamforge.runtime.log.archived import NO_ARCHIVE, ArchiveReader
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.service.tasks import run_until_first
from dreamforge.runtime.service.telemetry import LAG, LATENCY_BUCKETS

PROJECTED = Counter("forge_projected_messages_total", "Messages that the read tables have passed", ["stream"])
LAG_SECONDS = Gauge("forge_projection_lag_seconds", "Age of the newest event in the read tables; 0: all", ["stream"])
COMMIT_SECONDS = Histogram("forge_projection_commit_seconds", "Fold and commit of one batch", buckets=LATENCY_BUCKETS)

# Messages of the log that are folded in one transaction, at the most: an archived job brings some dozen with it.
ARCHIVED_TOGETHER = 4_000

# SQLSTATE classes of values that Postgres can never store, however often it is tried: data exception,
# integrity constraint, program limit exceeded (an index entry too long, JSON too deep).
PERMANENT = ("22", "23", "54")


def is_permanent(error: Exception) -> bool:
    """Whether one of the rows itself is the cause, so that trying again cannot help.

    >>> is_permanent(psycopg.errors.UntranslatableCharacter()), is_permanent(psycopg.errors.AdminShutdown())
    (True, False)
    """
    if isinstance(error, psycopg.Error) and error.sqlstate:
        return error.sqlstate[:2] in PERMANENT
    return isinstance(error, psycopg.DataError | UnicodeError)  # refused by the client: NUL in a text


@dataclass(slots=True)
class StreamProjection:
    """Folds one stream from its checkpoint on. `sequence` is the last one that is in the tables."""

    session: Session
    fold: Fold
    follower: Follower
    park: Park
    batch_messages: int
    pause_seconds: float = 0.0
    until: int | None = None
    sequence: int = 0
    archive: ArchiveReader = NO_ARCHIVE
    caught_up: asyncio.Event = field(default_factory=asyncio.Event)
    _moved: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def run(self) -> None:
        """Run forever; with `until`, up to that sequence. Errors: Fenced, psycopg.Error (needs a new session)."""
        self.caught_up.clear()
        buffer = BatchBuffer(self.batch_messages)
        await run_until_first(self._read(buffer), self._write(buffer))

    async def _read(self, buffer: BatchBuffer) -> None:
        async for batch in self.follower.batches():
            wanted = [message for message in batch.messages if self.until is None or message.sequence <= self.until]
            at_end = batch.messages[len(wanted) :] or (wanted and wanted[-1].sequence == self.until)
            await buffer.put(decode(wanted), 0 if at_end else batch.pending)
            if at_end:
                await asyncio.Event().wait()  # for `_write`, which ends both

    async def _write(self, buffer: BatchBuffer) -> None:
        while not self._done():
            items, pending = await buffer.take()
            await self.apply(items)
            LAG.labels("tables", self.fold.stream).set(pending)
            if pending == 0:
                LAG_SECONDS.labels(self.fold.stream).set(0)
                self.caught_up.set()
            if self.pause_seconds:
                await asyncio.sleep(self.pause_seconds)  # lets newer steps overtake older ones

    def _done(self) -> bool:
        return self.until is not None and (self.sequence >= self.until or self.caught_up.is_set())

    def _is_new(self, item: Decoded) -> bool:
        sequence = item.message.sequence
        return sequence > self.sequence and (self.until is None or sequence <= self.until)

    async def reached(self, sequence: int) -> None:
        """Wait until the tables are at this sequence or after it."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.sequence >= sequence)

    async def apply(self, items: Sequence[Decoded]) -> None:
        """Write what is new in a batch; what cannot be read is parked first, since the checkpoint moves past it."""
        new = [item for item in items if self._is_new(item)]
        for first in range(0, len(new), ARCHIVED_TOGETHER):
            await self._apply(await self._with_archived(new[first : first + ARCHIVED_TOGETHER]))

    async def pass_to(self, sequence: int) -> None:
        """Move the checkpoint on, if it is not there yet: what is before it is in the tables, or nowhere."""
        if sequence > self.sequence:
            await self._commit([], sequence)

    async def _with_archived(self, items: Sequence[Decoded]) -> list[Decoded]:
        """The items, with what the tables lack of archived jobs before the events that say where that is."""
        async with self.session.busy:
            return await with_archived_events(self.session.connection, items, self.archive)

    async def _apply(self, items: Sequence[Decoded]) -> None:
        with COMMIT_SECONDS.time():
            for item in items:
                if item.entry is None:
                    await self.park(self.fold.stream, item.message, item.problem)
            await self._commit([item for item in items if item.entry is not None], items[-1].folded_up_to)
        async with self._moved:
            self._moved.notify_all()
        PROJECTED.labels(self.fold.stream).inc(len(items))
        if (entry := items[-1].entry) is not None:
            LAG_SECONDS.labels(self.fold.stream).set(max(0.0, (clock.now() - entry.recorded.at).total_seconds()))

    async def _commit(self, items: Sequence[Decoded], upto: int) -> None:
        """Write the batch; if Postgres can never store one of its rows, halve the batch until that event is alone."""
        try:
            await self._transact(items, upto)
        except Exception as error:
            if not is_permanent(error) or not items:
                raise
            if len(items) == 1:
                await self.park(self.fold.stream, items[0].message, f"the tables refuse it: {error}")
                await self._commit([], upto)
                return
            half = len(items) // 2
            await self._commit(items[:half], items[half - 1].folded_up_to)
            await self._commit(items[half:], upto)

    async def _transact(self, items: Sequence[Decoded], upto: int) -> None:
        entries, written = [item.entry for item in items if item.entry is not None], False
        while not written:
            async with self.session.busy:
                folded = await self.fold.fold(self.session.connection, entries)
            await self._park_refused(folded, items)
            written = await self._write_folded(folded, upto)

    async def _write_folded(self, folded: Folded, upto: int) -> bool:
        """False, and nothing is written, when a job was folded again (`refold`) since the batch was folded."""
        async with self.session.busy:
            if not folded.fits():
                return False
            async with self.session.advancing(self.fold.stream, self.sequence, upto) as cursor:
                await folded.write(cursor)
            self.sequence = upto
            folded.committed()
        return True

    async def _park_refused(self, folded: Folded, items: Sequence[Decoded]) -> None:
        if folded.refused:
            messages = {item.message.sequence: item.message for item in items}
            for refused in folded.refused:
                await self.park(self.fold.stream, messages[refused.sequence], refused.reason)
