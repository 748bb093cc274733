"""Runs a local stack in the foreground: starts it, tells what runs where, waits for a signal, stops it."""

import asyncio
import os
import signal

from dreamforge.cli.console import out
from dreamforge.cli.failure import Exit
from dreamforge.cli.settings import CliSettings
from dreamforge.cli.stack.local import LocalStack
from dreamforge.cli.stack.plan import StackOptions, service_names
from dreamforge.cli.stack.record import StackRecord
from dreamforge.cli.stack.show import LivePrinter, stack_table


async def serve(settings: CliSettings, options: StackOptions, *, quiet: bool) -> None:
    """Start, tell, wait for a signal, stop. A second signal ends everything at once."""
    stop = stop_on_signals()
    names = ("nats", "postgres", "s3", *service_names(options), "stack")
    printer = LivePrinter(out, names)
    heard = (lambda _service, _line: None) if quiet else printer.heard
    stack = LocalStack(settings, options, say=printer.said, listen=heard)
    starting = asyncio.create_task(stack.start())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return
    try:
        _tell(starting.result())
        await stopped
    finally:
        stopped.cancel()
        if not starting.exception():
            await stack.stop()


def _tell(record: StackRecord) -> None:
    out.print()
    out.print(stack_table(record))
    out.print(f"\n[bold]Dream Forge is up[/bold] at [link]{record.gateway_url}[/link]; Ctrl-C stops it. Try:")
    # uv names itself to what it runs; whoever started us through it has no `dreamforge` on the path of another shell.
    prefix = "uv run " if "UV" in os.environ else ""
    out.print(f'  {prefix}dreamforge generate "a lighthouse at dawn"\n', style="green")


def stop_on_signals() -> asyncio.Event:
    """An event that SIGINT, SIGTERM and SIGHUP set; a second one of them ends us, and our guardians the rest."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(Exit.INTERRUPTED)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)
    return stop
