"""The newest readable message of every subject, even where unreadable messages were published after it.

A batched direct get returns the last message of each subject. Where that one cannot be read (any client that may
publish there can write arbitrary bytes), the event before it is still valid: it is in the tables and in every
follower's fold.
"""

from dreamforge.contracts.log.envelope import Recorded
from dreamforge.runtime.log import direct_get, leader_get
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.log.readable import readable

Read = tuple[LogMessage, Recorded]


async def newest_readable(bus: Bus, stream: str, subject_filter: str) -> tuple[list[Read], int]:
    """As `last_readable`, up to the last acknowledged message under the filter, which the leader is asked for.

    Errors: DependencyAway when NATS does not answer.
    """
    version = await leader_get.version(bus, stream, subject_filter)
    return await last_readable(bus, stream, subject_filter, covering=version) if version else ([], 0)


async def last_readable(bus: Bus, stream: str, subject_filter: str, *, covering: int) -> tuple[list[Read], int]:
    """The newest readable message of each subject under a filter, in stream order, and the last sequence under it.

    The sequence counts unreadable messages too; 0: there is none. The answer includes everything up to the sequence
    `covering`. Errors: DependencyAway when NATS does not answer.
    """
    found: list[Read] = []
    messages = await direct_get.last_of_each(bus, stream, subject_filter, covering=covering)
    replaced = False
    for message in messages:
        read = _read(message)
        if read is None:
            replaced = True
            read = await _newest_before(bus, stream, message)
        if read is not None:
            found.append(read)
    if replaced:
        found.sort(key=lambda each: each[0].sequence)
    return found, max((message.sequence for message in messages), default=0)


async def _newest_before(bus: Bus, stream: str, message: LogMessage) -> Read | None:
    """The newest readable one of the first messages of this subject; we write each event there only once."""
    messages = await direct_get.after(bus, stream, message.subject, 0)
    return next((read for older in reversed(messages) if (read := _read(older)) is not None), None)


def _read(message: LogMessage) -> Read | None:
    recorded = readable(message)
    return None if recorded is None else (message, recorded)
