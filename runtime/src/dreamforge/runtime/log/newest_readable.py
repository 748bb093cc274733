"""The newest readable message of every subject, whatever was laid on top of it.

A batched direct get gives the last message of each subject. Where that one cannot be read (anybody with the right to
publish can put bytes there), the fact below it still stands: it is in the tables and in every follower's fold.
"""

from loguru import logger

from dreamforge.contracts.errors import MalformedEvent
from dreamforge.contracts.log.envelope import Recorded, unseal
from dreamforge.runtime.log import direct_get, leader_get
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.message import LogMessage

Read = tuple[LogMessage, Recorded]


async def newest_readable(bus: Bus, stream: str, subject_filter: str) -> tuple[list[Read], int]:
    """As `last_readable`, with everything that was acknowledged before: the leader says how far that is.

    Errors: DependencyAway when NATS does not answer.
    """
    version = await leader_get.version(bus, stream, subject_filter)
    return await last_readable(bus, stream, subject_filter, covering=version) if version else ([], 0)


async def last_readable(bus: Bus, stream: str, subject_filter: str, *, covering: int) -> tuple[list[Read], int]:
    """What stands under a filter, in stream order, and the last sequence there, readable or not (0: nothing).

    Everything up to the sequence `covering` is in it. Errors: DependencyAway when NATS does not answer.
    """
    found: list[Read] = []
    messages = await direct_get.last_of_each(bus, stream, subject_filter, covering=covering)
    covered = False
    for message in messages:
        read = _read(message)
        if read is None:
            covered = True
            read = await _below(bus, stream, message)
        if read is not None:
            found.append(read)
    if covered:
        found.sort(key=lambda each: each[0].sequence)
    return found, max((message.sequence for message in messages), default=0)


def readable(message: LogMessage) -> Recorded | None:
    """What one message says; None, with a line in the log, if nobody can read it."""
    read = _read(message)
    return read[1] if read else None


async def _below(bus: Bus, stream: str, message: LogMessage) -> Read | None:
    """The newest that can be read among the first messages of this subject; a fact of ours is written there once."""
    messages = await direct_get.after(bus, stream, message.subject, 0)
    return next((read for older in reversed(messages) if (read := _read(older)) is not None), None)


def _read(message: LogMessage) -> Read | None:
    try:
        return message, unseal(message.subject, message.headers, message.data, sequence=message.sequence)
    except MalformedEvent as error:
        logger.warning("passing over {}: {}", message.sequence, error)
        return None
