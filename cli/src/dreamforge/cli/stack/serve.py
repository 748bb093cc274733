"""Runs a local stack in the foreground: starts it, prints what runs where, waits for a signal, stops it."""

import os
import signal

from dreamforge.cli.console import out
from dreamforge.cli.failure import Exit
from dreamforge.cli.settings import CliSettings
from dreamforge.cli.stack.local import LocalStack
from dreamforge.cli.stack.plan import StackOptions, service_names
from dreamforge.cli.stack.record import StackRecord
from dreamforge.cli.stack.show import LivePrinter, stack_table
from dreamforge.runtime.service.lifetime import Lifetime
from dreamforge.runtime.service.signals import stop_on_signals

# A stack that is stopped while it starts ends its services and servers one after the other.
CLEANUP_SECONDS = 120.0


async def serve(settings: CliSettings, options: StackOptions, *, quiet: bool) -> None:
    """Start, print, wait for a signal, stop. A second signal ends us at once, and our guardians end the rest."""
    names = ("nats", "postgres", "s3", *service_names(options), "stack")
    printer = LivePrinter(out, names)
    heard = (lambda _service, _line: None) if quiet else printer.heard
    stack = LocalStack(settings, options, say=printer.said, listen=heard)

    async def start(lifetime: Lifetime) -> None:
        record = await stack.start()
        lifetime.on_close(stack.stop)
        _tell(record)

    stop = stop_on_signals(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, exit_status=Exit.INTERRUPTED)
    await Lifetime(stop).run(start, cleanup_seconds=CLEANUP_SECONDS)


def _tell(record: StackRecord) -> None:
    out.print()
    out.print(stack_table(record))
    out.print(f"\n[bold]Dream Forge is up[/bold] at [link]{record.gateway_url}[/link]; Ctrl-C stops it. Try:")
    # uv sets UV for what it runs; whoever started us through it has no `dreamforge` on the path of another shell.
    prefix = "uv run " if "UV" in os.environ else ""
    out.print(f'  {prefix}dreamforge generate "a lighthouse at dawn"\n', style="green")
