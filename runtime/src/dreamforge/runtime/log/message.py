"""A message as its stream holds it, whether it was followed or requested."""

from dataclasses import dataclass

# Headers that nats-server adds, and those by which a writer states when to refuse the message.
SERVERS_OWN = "Nats-"


@dataclass(frozen=True, slots=True)
class LogMessage:
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
