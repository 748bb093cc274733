"""Log lines of services, formatted for a terminal: service name first, ids dimmed behind the message."""

import json
from dataclasses import dataclass, field

from rich.text import Text

from dreamforge.cli.console import printable

# Readable on dark and light terminals; red and yellow are reserved for warnings and errors.
COLOURS = ("cyan", "green", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta", "bright_blue")
LEVEL_COLOURS = {"WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red"}
NAME_WIDTH = 12
# Attributes for programs only.
_UNSHOWN = ("code.",)


@dataclass(frozen=True, slots=True)
class LogLine:
    """A parsed log line; `time` is HH:MM:SS, or empty if the line has none."""

    message: str
    level: str = "INFO"
    time: str = ""
    ids: dict[str, str] = field(default_factory=dict)


def parse_line(raw: str) -> LogLine:
    """Parse a JSON log line; any other text is its own message.

    >>> parse_line('{"timestamp": "2026-01-01T10:00:00+00:00", "body": "hi", "attributes": {"job_id": "J"}}')
    LogLine(message='hi', level='INFO', time='10:00:00', ids={'job_id': 'J'})
    """
    if (found := _fields(raw)) is None:
        return LogLine(raw)
    given = found.get("attributes")
    attributes = {key: str(value) for key, value in given.items()} if isinstance(given, dict) else {}
    ids = {key: value for key, value in attributes.items() if not key.startswith(_UNSHOWN)}
    if "trace_id" in found:
        ids["trace_id"] = str(found["trace_id"])
    time = str(found.get("timestamp", ""))[11:19]
    return LogLine(str(found["body"]), str(found.get("severity_text", "INFO")), time, ids)


def time_of(raw: str) -> str:
    """The whole time of a JSON log line, which sorts; "" where there is none.

    >>> time_of('{"timestamp": "2026-01-01T10:00:00+00:00", "body": "hi"}'), time_of("Traceback")
    ('2026-01-01T10:00:00+00:00', '')
    """
    found = _fields(raw)
    return "" if found is None else str(found.get("timestamp", ""))


def _fields(raw: str) -> dict[str, object] | None:
    """The fields of a log line, by OpenTelemetry's names for them (`telemetry.log_line`); None: it is other text."""
    try:
        found = json.loads(raw)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "body" in found else None


def show_line(service: str, line: LogLine, colour: str) -> Text:
    """The line as `up` and `logs` print it."""
    text = Text()
    text.append(f"{line.time:8} ", style="dim")
    text.append(f"{service:<{NAME_WIDTH}} ", style=colour)
    text.append(printable(line.message), style=LEVEL_COLOURS.get(line.level, ""))
    for name, value in line.ids.items():
        text.append(printable(f"  {name}={value}"), style="dim")
    return text


def colour_of(service: str, services: tuple[str, ...]) -> str:
    """The colour of a service, by its position among all of them."""
    position = services.index(service) if service in services else len(services)
    return COLOURS[position % len(COLOURS)]
