"""Decodes messages into entries; a message that cannot be read carries the reason. Pure."""

from collections.abc import Iterable
from typing import NamedTuple

from dreamforge.contracts.errors import MalformedEvent
from dreamforge.contracts.log.envelope import unseal
from dreamforge.projector.folding.project import Entry
from dreamforge.runtime.log.message import LogMessage


class Decoded(NamedTuple):
    """A message with its decoded entry, or with why it cannot be read.

    `archived_by`: of a message from the archive, the place in the log of the event that says where it is.
    """

    message: LogMessage
    entry: Entry | None
    problem: str = ""
    archived_by: int | None = None

    @property
    def folded_up_to(self) -> int:
        """Up to which sequence the log is folded once this is: all that is in the archive comes before its event."""
        return self.message.sequence if self.archived_by is None else self.archived_by - 1


def decode(messages: Iterable[LogMessage]) -> list[Decoded]:
    """Decode each message, whatever bytes it holds."""
    return [_decode(message) for message in messages]


def _decode(message: LogMessage) -> Decoded:
    try:
        return Decoded(message, _entry(message))
    except MalformedEvent as error:
        return Decoded(message, None, error.reason)
    except Exception as error:  # unknown bytes may break any parser, and must not stop the stream
        return Decoded(message, None, f"{type(error).__name__}: {error}")


def _entry(message: LogMessage) -> Entry:
    recorded = unseal(message.subject, message.headers, message.data, sequence=message.sequence)
    if message.headers.get("ce-type") == recorded.event.TYPE:
        return Entry(recorded, message.data.decode())
    return Entry(recorded, recorded.event.model_dump_json())
