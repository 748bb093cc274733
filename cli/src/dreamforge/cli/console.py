"""The two ways this command speaks: for people on a terminal, for programs as JSON."""

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

# A pipe has no width: wide enough that nothing is cut that somebody greps for.
PIPE_COLUMNS = 160

out = Console(highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_COLUMNS)
err = Console(stderr=True, highlight=False)


_JSON = ContextVar("_JSON", default=False)


def _remember(value: bool) -> bool:
    """Let errors come out as JSON too, wherever they are reported."""
    _JSON.set(value)
    return value


def speaks_json() -> bool:
    """Whether this call was asked for JSON."""
    return _JSON.get()


Json = Annotated[bool, typer.Option("--json", callback=_remember, help="Print JSON, for scripts.")]


def emit(value: object) -> None:
    """One JSON document on stdout."""
    out.file.write(json.dumps(value, default=_jsonable, indent=2) + "\n")


def emit_line(value: object) -> None:
    """One JSON document on one line, for streams of them; flushed, since somebody may wait for it."""
    out.file.write(json.dumps(value, default=_jsonable) + "\n")
    out.file.flush()


def _jsonable(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Iterable):
        return list(value)
    return str(value)


def run(work: Coroutine[Any, Any, T]) -> T:  # Any: what a coroutine yields and is sent is asyncio's affair
    """Run an async command to its end; Ctrl-C and SIGTERM cancel it, so that it ends in order."""
    return asyncio.run(_cancelled_by_sigterm(work))


async def _cancelled_by_sigterm(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work
