"""Folds the next batch of JOBS while Postgres writes the one before, over what that one has in memory.

What was folded ahead is used only if it is of the batch that is to be written, and if the batch before was committed as
it was folded: after anything else, the batch is folded again in its turn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import is_

from prometheus_client import Counter

from dreamforge.contracts.events import JobArchived
from dreamforge.projector.folding.decode import Decoded
from dreamforge.projector.folding.job import JobRow
from dreamforge.projector.folding.project import Entry
from dreamforge.projector.writing.buffer import BatchBuffer
from dreamforge.projector.writing.folds import Folded, JobsFold
from dreamforge.runtime.storage.postgres import Connection

FOLDED_AHEAD = Counter(
    "forge_projection_folded_ahead_total", "Batches folded while the one before was written", ["outcome"]
)


@dataclass(slots=True)
class FoldAhead:
    """What comes after the batch that is being written: `read`, then `fold` beside the writing, then `take`."""

    jobs: JobsFold
    buffer: BatchBuffer
    _entries: list[Entry] = field(default_factory=list)
    _rows: Mapping[str, JobRow] = field(default_factory=dict)
    _folded: Folded | None = None

    async def read(self, before: Folded, upto: int, connection: Connection) -> None:
        """Read what the batch after `upto` needs beside the one before, if it is there. That one is not written yet.

        Errors: psycopg.Error.
        """
        self._entries = _entries(self.buffer.whole_batch_after(upto))
        if self._entries and before.changes is not None:
            self._rows = await self.jobs.jobs_after(before.changes, connection, self._entries)

    async def fold(self, before: Folded) -> None:
        """Fold what was read for. An error is kept for the fold of that batch in its turn, which will have it again."""
        if self._entries and before.changes is not None:
            self._folded = await self.jobs.fold_after(before.changes, self._rows, self._entries)

    def take(self, entries: Sequence[Entry]) -> Folded | None:
        """What was folded ahead, if it is of these entries and can be written now. It is forgotten in any case."""
        folded, self._folded = self._folded, None
        if folded is None:
            return None
        same = len(entries) == len(self._entries) and all(map(is_, entries, self._entries))
        used = same and folded.fits()
        FOLDED_AHEAD.labels("used" if used else "discarded").inc()
        return folded if used else None


def _entries(items: Sequence[Decoded]) -> list[Entry]:
    """Those of a batch; none if events from the archive may have to be brought into it first."""
    found = [item.entry for item in items if item.entry is not None]
    return [] if any(isinstance(entry.recorded.event, JobArchived) for entry in found) else found
