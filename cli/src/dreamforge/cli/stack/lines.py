"""One log line of a service, made readable: prefixed with who said it, its ids dimmed behind the message."""

import json
from dataclasses import dataclass, field

from rich.text import Text

# Told apart on dark and light terminals; red and yellow stay for trouble.
COLOURS = ("cyan", "green", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta", "bright_blue")
TROUBLE = {"WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red"}
NAME_WIDTH = 12
# Said by the prefix, or of use to a machine only.
_UNSHOWN = frozenset({"time", "level", "message", "where", "service"})


@dataclass(frozen=True, slots=True)
class Line:
    """A log line taken apart; `time` is HH:MM:SS or empty when the line had none."""

    message: str
    level: str = "INFO"
    time: str = ""
    ids: dict[str, str] = field(default_factory=dict)


def parse_line(raw: str) -> Line:
    """Take one of our JSON lines apart; any other text is its own message.

    >>> parse_line('{"time": "2026-01-01T10:00:00+00:00", "level": "INFO", "message": "hi", "job_id": "J"}')
    Line(message='hi', level='INFO', time='10:00:00', ids={'job_id': 'J'})
    """
    try:
        found = json.loads(raw)
    except ValueError:
        return Line(raw)
    if not isinstance(found, dict) or "message" not in found:
        return Line(raw)
    ids = {key: str(value) for key, value in found.items() if key not in _UNSHOWN}
    return Line(str(found["message"]), str(found.get("level", "INFO")), str(found.get("time", ""))[11:19], ids)


def show_line(service: str, line: Line, colour: str) -> Text:
    """The line as `up` and `logs` print it."""
    text = Text()
    text.append(f"{line.time:8} ", style="dim")
    text.append(f"{service:<{NAME_WIDTH}} ", style=colour)
    text.append(line.message, style=TROUBLE.get(line.level, ""))
    for name, value in line.ids.items():
        text.append(f"  {name}={value}", style="dim")
    return text


def colour_of(service: str, services: tuple[str, ...]) -> str:
    """A service's own colour, by its place among all of them."""
    place = services.index(service) if service in services else len(services)
    return COLOURS[place % len(COLOURS)]
