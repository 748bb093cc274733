"""A message as its stream holds it, however it was read: followed, or asked for."""

from dataclasses import dataclass

# Headers that nats-server lays over the writer's own, and those that told it when to refuse.
SERVERS_OWN = "Nats-"


@dataclass(frozen=True, slots=True)
class LogMessage:
    """A message of a stream. `headers` are the writer's own, {} when it had none."""

    subject: str
    headers: dict[str, str]
    data: bytes
    sequence: int


def writers_own(headers: dict[str, str]) -> dict[str, str]:
    """Without what is said between a writer and its server.

    >>> writers_own({"ce-id": "1", "Nats-Sequence": "7"})
    {'ce-id': '1'}
    """
    return {key: value for key, value in headers.items() if not key.startswith(SERVERS_OWN)}
