"""A process that folds one range of the log into shadow tables: `python -m` this module.

Its task comes on a line of standard input, which stays open for as long as there is someone who waits for it. On
standard output each line is a JSON object: `folded_up_to`, then at the end the messages that it has left, or why it
failed.
"""

import asyncio
import json
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from loguru import logger
from pydantic import SecretStr

from dreamforge.contracts.errors import LogReplaced
from dreamforge.contracts.log.streams import JOBS
from dreamforge.projector.folding.decode import Decoded
from dreamforge.projector.folding.job import JobRow
from dreamforge.projector.folding.project import Entry
from dreamforge.projector.maintenance.live_tables import open_bus
from dreamforge.projector.maintenance.log_range import LogRange, Ownership
from dreamforge.projector.parking import park_nothing
from dreamforge.projector.writing.folds import JobsFold
from dreamforge.projector.writing.session import Session
from dreamforge.projector.writing.stream_projection import StreamProjection
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.log.identity import stream_place
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.service.gc_tuning import infrequent_gc
from dreamforge.runtime.service.tasks import run_until_first
from dreamforge.runtime.storage.postgres import Connection
from dreamforge.runtime.storage.settings import DatabaseSettings

# About 1.5 kB each. A range with more, of archived jobs say, ends early, and what follows is folded in order.
LEFT_MAX = 100_000


@dataclass(frozen=True, slots=True)
class RangeTask:
    """What to fold, and where. `checkpoint`: a row of the tables, there for this range only, which fences it."""

    settings: DatabaseSettings
    schema: str
    log_id: str
    checkpoint: str
    range: LogRange
    batch_messages: int
    left_max: int

    def text(self) -> str:
        """As a line of JSON, secrets included."""
        settings = self.settings.model_dump(include=set(DatabaseSettings.model_fields))
        return json.dumps(_fields(self) | {"settings": settings, "range": asdict(self.range)}, default=_plain)

    @classmethod
    def read(cls, text: str) -> Self:
        """The task of `text`. Errors: ValueError."""
        fields: dict[str, Any] = json.loads(text)  # Any: JSON
        settings = DatabaseSettings(_env_file=None, **fields.pop("settings"))
        return cls(settings=settings, range=LogRange(**fields.pop("range")), **fields)


def _fields(task: RangeTask) -> dict[str, object]:
    return {name: getattr(task, name) for name in ("schema", "log_id", "checkpoint", "batch_messages", "left_max")}


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


class RangeFold(JobsFold):
    """JOBS, of jobs that were requested in the range: nothing is read from the tables."""

    def __init__(self, checkpoint: str) -> None:
        super().__init__()
        self.stream = checkpoint

    def known(self, items: Sequence[Decoded]) -> dict[str, JobRow]:
        """Jobs of these items that the range knows."""
        return self._cache.known({item.entry.recorded.entity_id for item in items if item.entry is not None})

    async def _jobs(self, connection: Connection, entries: Sequence[Entry]) -> dict[str, JobRow]:  # noqa: ARG002
        return self._cache.known({entry.recorded.entity_id for entry in entries})


@dataclass(slots=True)
class RangeProjection(StreamProjection):
    """Folds a range up to its end, or to where it has left too much."""

    left: dict[int, LogMessage] = field(default_factory=dict)
    left_max: int = LEFT_MAX
    _ownership: Ownership = field(default_factory=Ownership)

    async def _with_archived(self, items: Sequence[Decoded]) -> list[Decoded]:
        return list(items)  # an archived job is over, so it is left

    async def _transact(self, items: Sequence[Decoded], upto: int) -> None:
        assert isinstance(self.fold, RangeFold)
        own, others = self._ownership.split(self.fold.known(items).keys(), items)
        await StreamProjection._transact(self, own, upto)  # `super()` is of a class without slots
        self.left |= {item.message.sequence: item.message for item in others}
        tell(folded_up_to=upto)
        if len(self.left) > self.left_max:
            self.until = upto


def tell(**said: object) -> None:
    """Write a line for the process that waits."""
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


async def fold(task: RangeTask) -> None:
    """Fold the range and tell what was left. Errors: LogReplaced, Fenced, DependencyAway, psycopg.Error."""
    url = task.settings.database_url.get_secret_value()
    async with (
        open_bus(task.settings, "rebuild") as bus,
        Session.open(url, name=f"dreamforge-{task.schema}", schema=task.schema) as session,
    ):
        if (await stream_place(bus, JOBS.name)).log_id != task.log_id:
            raise LogReplaced(stream=JOBS.name, reason=f"it was log {task.log_id}")
        await session.prepare()
        before = task.range.first - 1
        projection = RangeProjection(
            session, RangeFold(task.checkpoint), Follower(bus, JOBS.name, after_sequence=before), park_nothing,
            task.batch_messages, until=task.range.last, sequence=before, left_max=task.left_max,
        )  # fmt: skip
        with infrequent_gc():
            await run_until_first(projection.run(), session.keep_lease())
        for message in projection.left.values():
            tell(left=[message.subject, message.headers, message.data.decode("latin-1"), message.sequence])
        ended_early = len(projection.left) > task.left_max
        tell(done=projection.sequence if ended_early else task.range.last)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    """Take the task and do it."""
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    task = RangeTask.read(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        asyncio.run(fold(task))
    except Exception as error:
        tell(failed=f"{type(error).__name__}: {error}")
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
