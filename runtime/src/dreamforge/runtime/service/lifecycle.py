"""How every service process lives: logs, health, signals, and a clean end."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import uvloop
from loguru import logger

from dreamforge.contracts.errors import ForgeError
from dreamforge.runtime.service.settings import CommonSettings
from dreamforge.runtime.service.telemetry import configure_logging

EXIT_ERROR = 1
# What a task may take to clean up before it is cancelled again.
CANCEL_AGAIN_SECONDS = 1.0
Run = Callable[[asyncio.Event], Awaitable[None]]


async def run_until_stopped(run: Run) -> None:
    """Run a service; its `stop` event is set by SIGTERM or SIGINT. A second signal kills at once."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        logger.info("{} received: finishing", signal.Signals(number).name)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    await run(stop)


def main(service: str, settings: CommonSettings, run: Run) -> None:
    """The body of every `python -m dreamforge.<service>`: exits non-zero with one clear line on our own errors."""
    configure_logging(service, level=settings.log_level, as_json=settings.log_json)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run_until_stopped(run))
    except ForgeError as error:
        logger.critical("{} cannot run: {}", service, error)
        sys.exit(EXIT_ERROR)
    logger.info("{} stopped", service)


async def until_stopped_or_broken(stop: asyncio.Event, *tasks: "asyncio.Task[None]") -> None:
    """Wait for `stop`; if a background task ends before, raise its error. Then cancel them all."""
    waiter = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait({waiter, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {waiter}:
            task.result()
            raise RuntimeError(f"background task {task.get_name()} ended")
    finally:
        await cancel(waiter, *tasks)


async def cancel(*tasks: "asyncio.Task[object]") -> None:
    """Cancel tasks until they have ended, whatever they end with; whoever is cancelled meanwhile ends after them.

    More than once, because libraries that use `asyncio.wait_for` on Python 3.11 can swallow a cancellation that
    arrives together with their answer.
    """
    pending = set(tasks)
    interruption: asyncio.CancelledError | None = None
    while pending:
        for task in pending:
            task.cancel()
        try:
            await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)
        except asyncio.CancelledError as error:
            interruption = error
        pending = {task for task in pending if not task.done()}
    await asyncio.gather(*tasks, return_exceptions=True)  # so that no error is reported as never looked at
    if interruption is not None:
        raise interruption
