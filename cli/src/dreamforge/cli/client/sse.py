"""Server-sent events, read as the WHATWG standard says: a pure parser of lines."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SseMessage:
    """One event: `id` is where to resume after it."""

    event: str
    data: str
    id: str = ""


@dataclass(slots=True)
class SseParser:
    """Feed it lines without their line ends; it gives a message at the blank line that ends one.

    >>> parser = SseParser()
    >>> [m for line in ["id: 7", "event: step", "data: {}", ""] for m in parser.feed(line)]
    [SseMessage(event='step', data='{}', id='7')]
    """

    last_id: str = ""
    retry_seconds: float | None = None
    _event: str = ""
    _data: list[str] = field(default_factory=list)

    def feed(self, line: str) -> Iterator[SseMessage]:
        """Nothing, or the message that this line completes. Comments (heartbeats) complete nothing."""
        if not line:
            if self._data:
                yield SseMessage(self._event or "message", "\n".join(self._data), self.last_id)
            self._event, self._data = "", []
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            self._field(name, value.removeprefix(" "))

    def _field(self, name: str, value: str) -> None:
        match name:
            case "event":
                self._event = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self.last_id = value
            case "retry" if value.isdecimal():
                self.retry_seconds = int(value) / 1000


def parse(lines: Iterable[str]) -> list[SseMessage]:
    """Every complete message in some lines."""
    parser = SseParser()
    return [message for line in lines for message in parser.feed(line)]
