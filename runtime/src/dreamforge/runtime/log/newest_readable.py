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

# From so many unreadable subjects on, all messages are read at once: a request takes as long as some hundred of them.
ONE_BY_ONE_MAX = 8
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
    messages = await direct_get.last_of_each(bus, stream, subject_filter, covering=covering)
    found = {message.subject: read for message in messages if (read := _read(message)) is not None}
    unreadable = {message.subject for message in messages} - found.keys()
    if unreadable:
        found |= await _older(bus, stream, subject_filter, unreadable)
    in_order = sorted(found.values(), key=lambda each: each[0].sequence)
    return in_order, max((message.sequence for message in messages), default=0)


async def _older(bus: Bus, stream: str, subject_filter: str, subjects: set[str]) -> dict[str, Read]:
    """The newest readable one of the messages of each subject; we write each event there only once."""
    if len(subjects) > ONE_BY_ONE_MAX:
        messages = await direct_get.every(bus, stream, subject_filter)
    else:
        messages = [each for subject in subjects for each in await direct_get.after(bus, stream, subject, 0)]
    return {each.subject: read for each in messages if each.subject in subjects and (read := _read(each)) is not None}


def _read(message: LogMessage) -> Read | None:
    recorded = readable(message)
    return None if recorded is None else (message, recorded)
