"""Output of the command: text for people, JSON for programs."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Coroutine, Iterable
from contextvars import ContextVar
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel
from rich.console import Console

T = TypeVar("T")

# A pipe has no width: wide enough that lines are not cut, so that grep finds everything.
PIPE_COLUMNS = 160

out = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_COLUMNS)
err = Console(stderr=True, highlight=False)


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
