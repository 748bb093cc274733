"""Entry point of the command `dreamforge`: wiring only."""

import asyncio
import sys
from typing import Any

import typer
from loguru import logger

from dreamforge.cli import console
from dreamforge.cli.commands import (
    demo,
    down,
    events,
    generate,
    jobs,
    logs,
    models,
    parked,
    projection,
    queue,
    rerun,
    runners,
    status,
    up,
)
from dreamforge.cli.failure import EXIT_MEANINGS, Exit, report
from dreamforge.contracts.errors import ForgeError


class ForgeTyper(typer.Typer):
    """Prints each `ForgeError` as one block and exits with its code, for every command below."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # Any: typer's signature
        try:
            return super().__call__(*args, **kwargs)
        except ForgeError as error:
            sys.exit(report(error, console.err, as_json=console.is_json_requested()))
        except (KeyboardInterrupt, asyncio.CancelledError):
            sys.exit(Exit.INTERRUPTED)


EPILOG = "\n\n".join(("Exit codes:", *(f"{code.value:>3}  {meaning}" for code, meaning in EXIT_MEANINGS.items())))

app = ForgeTyper(
    help="Image generation on your own GPUs, where every fact is an event in a durable log.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
)
app.command()(demo.demo)
app.command()(up.up)
app.command()(down.down)
app.command()(status.status)
app.command()(logs.logs)
app.command()(status.env)
app.command()(generate.generate)
app.command()(rerun.rerun)
app.add_typer(jobs.app, name="jobs")
app.add_typer(queue.app, name="queue")
events.app.add_typer(parked.app, name="parked")
app.add_typer(events.app, name="events")
app.add_typer(models.app, name="models")
app.add_typer(runners.app, name="runners")
app.add_typer(projection.app, name="projection")

# Libraries that are shared with the services write logs; the command shows errors only.
logger.remove()
logger.add(sys.stderr, level="ERROR", format="{message}")
