"""Runs a local stack in the foreground: starts it, prints its processes, waits for a signal, stops it."""

import signal

from rich.text import Text

from dreamforge.cli.console import out
from dreamforge.cli.failure import Exit
from dreamforge.cli.next_command import next_command
from dreamforge.cli.settings import CliSettings
from dreamforge.cli.stack.local import LocalStack
from dreamforge.cli.stack.plan import StackOptions, service_names
from dreamforge.cli.stack.show import LivePrinter, stack_table
from dreamforge.cli.stack_record import StackRecord
from dreamforge.runtime.service.lifetime import Lifetime
from dreamforge.runtime.service.service_manager import ServiceManager
from dreamforge.runtime.service.signals import stop_on_signals

# A stack that is stopped during its start ends its services and servers one after the other.
CLEANUP_SECONDS = 120.0


async def serve(settings: CliSettings, options: StackOptions, *, quiet: bool) -> None:
    """Start, print, wait for a signal, stop. A second signal exits at once; then guardians end all children."""
    names = ("nats", "postgres", "s3", *service_names(options), "stack")
    printer = LivePrinter(out, names)
    on_output = (lambda _service, _line: None) if quiet else printer.print_output
    manager = ServiceManager()
    stack = LocalStack(settings, options, on_event=printer.print_event, on_output=on_output)

    async def start(lifetime: Lifetime) -> None:
        record = await stack.start()
        lifetime.on_close(stack.stop)
        _print(record)
        manager.ready(record.gateway_url)

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    stop = stop_on_signals(*signals, on_first=lambda _: manager.stopping(), exit_status=Exit.INTERRUPTED)
    await Lifetime(stop).run(start, cleanup_seconds=CLEANUP_SECONDS)


def _print(record: StackRecord) -> None:
    out.print()
    out.print(stack_table(record))
    url = Text(record.gateway_url, style=f"link {record.gateway_url}")
    out.print(Text.assemble("\n", ("Dream Forge is up", "bold"), " at ", url, "; Ctrl-C stops it. Try:"))
    command = next_command('generate "a lighthouse at dawn"')
    out.print(f"  {command}\n", style="green")
