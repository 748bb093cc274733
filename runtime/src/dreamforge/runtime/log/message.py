"""A message as its stream holds it, whether it was followed or requested."""

from typing import NamedTuple

from dreamforge.contracts.log.envelope import COPIED_FROM

# Headers that nats-server adds, and those by which a writer states when to refuse the message.
SERVERS_OWN = "Nats-"
# Set by our client on an answer that names a stream twice: the message was an answer already when it was stored.
NAMED_TWICE = "Nats-Stream-Twice"


class LogMessage(NamedTuple):
    """A message of a stream. `headers` are the writer's own, {} when it had none."""

    subject: str
    headers: dict[str, str]
    data: bytes
    sequence: int


def writers_own(headers: dict[str, str]) -> dict[str, str]:
    """The headers without those between a writer and the server.

    >>> writers_own({"ce-id": "1", "Nats-Sequence": "7"})
    {'ce-id': '1'}
    """
    return {key: value for key, value in headers.items() if not key.startswith(SERVERS_OWN)}


def of_answer(headers: dict[str, str]) -> dict[str, str]:
    """The headers of a stored message from those of a direct get's answer; a copy keeps the mark of one.

    >>> of_answer({"ce-id": "1", "Nats-Stream": "JOBS", "Nats-Stream-Twice": "1"})
    {'ce-id': '1', 'Nats-Stream': 'JOBS'}
    """
    return writers_own(headers) | ({COPIED_FROM: headers[COPIED_FROM]} if NAMED_TWICE in headers else {})


def as_stored(headers: dict[str, str]) -> dict[str, str]:
    """The writer's own headers from all that are stored with a message; a copy keeps the mark of one."""
    return writers_own(headers) | ({COPIED_FROM: headers[COPIED_FROM]} if COPIED_FROM in headers else {})
