"""Output of the command: text for people, JSON for programs."""

import asyncio
import io
import json
import os
import re
import signal
import sys
from collections.abc import Coroutine, Iterable
from contextvars import ContextVar
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

T = TypeVar("T")

# C0 and C1 control characters but for tab and line feed; marks that reverse the direction of what follows; halves of a
# surrogate pair, which are how Python holds bytes that are no UTF-8.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Text from anywhere, safe on a terminal: control characters are shown as escapes.

    >>> printable("a \x1b[31mred\x07 fox")
    'a \\\\x1b[31mred\\\\x07 fox'
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def one_line(text: str) -> str:
    """Text with its line breaks and tabs as single spaces, for a cell of a table."""
    return " ".join(text.split())


class PlainConsole(Console):
    """Prints text as it is: no markup, no emoji names and no control character in it has an effect.

    What is styled is given as `Text` or with `style`, so that no text from a prompt, a file or a server is interpreted.
    """

    def __init__(self, **options: Any) -> None:  # Any: rich's own options
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    def render_str(self, text: str, **options: Any) -> Text:
        """Escaped before it is measured, so that tables stay aligned."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Every other renderable: its text is escaped where it leaves rich."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


def tolerate_any_text() -> None:
    """Let stdout and stderr show what their encoding has not as an escape, rather than fail (cp1252, Latin-1, C)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


# A pipe has no width: wide enough that lines are not cut, so that grep finds everything.
PIPE_COLUMNS = 160

out = PlainConsole(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_COLUMNS)
err = PlainConsole(stderr=True)


_JSON = ContextVar("_JSON", default=False)


def _remember(value: bool) -> bool:
    """Remember the choice, so that errors are reported as JSON too."""
    _JSON.set(value)
    return value


def is_json_requested() -> bool:
    """Whether this call has --json."""
    return _JSON.get()


Json = Annotated[bool, typer.Option("--json", callback=_remember, help="Print JSON, for scripts.")]


def emit(value: object) -> None:
    """Write one JSON document to stdout."""
    out.file.write(json.dumps(value, default=_jsonable, indent=2) + "\n")


def emit_line(value: object) -> None:
    """Write one JSON document on one line, for streams; flushed, because a reader may wait for it."""
    out.file.write(json.dumps(value, default=_jsonable) + "\n")
    out.file.flush()


def _jsonable(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Iterable):
        return list(value)
    return str(value)


def run(work: Coroutine[Any, Any, T]) -> T:  # Any: what a coroutine yields and is sent is internal to asyncio
    """Run an async command to its end; Ctrl-C and SIGTERM cancel it, so that it cleans up."""
    return asyncio.run(_cancelled_by_sigterm(work))


async def _cancelled_by_sigterm(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work
