"""Entry point of the command `dreamforge`: wiring only."""

import asyncio
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from loguru import logger

from dreamforge.cli import console
from dreamforge.cli.command_group import Gateway, with_gateway
from dreamforge.cli.commands import (
    audit,
    batches,
    certificate,
    demo,
    down,
    events,
    generate,
    import_picture,
    jobs,
    keys,
    logs,
    models,
    parked,
    projection,
    queue,
    rerun,
    runners,
    status,
    streams,
    tenants,
    up,
    verify,
    webhooks,
)
from dreamforge.cli.failure import EXIT_MEANINGS, CommandError, Exit, report
from dreamforge.contracts.errors import ForgeError


class ForgeTyper(typer.Typer):
    """Prints each `ForgeError` as one block and exits with its code, for every command below."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # Any: typer's signature
        console.tolerate_any_text()
        try:
            return super().__call__(*args, **kwargs)
        except ForgeError as error:
            sys.exit(report(error, console.err, as_json=console.is_json_requested()))
        except UnicodeEncodeError as error:
            sys.exit(report(_not_utf8(error), console.err, as_json=console.is_json_requested()))
        except (KeyboardInterrupt, asyncio.CancelledError):
            sys.exit(Exit.INTERRUPTED)


def _not_utf8(error: UnicodeEncodeError) -> CommandError:
    """Bytes that are no text reach us as halves of surrogate pairs, which nothing takes."""
    hint = "give text as UTF-8: a terminal or a script with another encoding has to convert it"
    what = f"an argument or a setting is not UTF-8 text: {error.object[max(0, error.start - 20) :][:60]!a}"
    return CommandError(what, Exit.REFUSED, hint=hint)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.out.print(f"dreamforge {version('dreamforge-cli')}")
        raise typer.Exit


def main(
    gateway: Gateway = None,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options that stand before a command."""


EPILOG = "\n\n".join(("Exit codes:", *(f"{code.value:>3}  {meaning}" for code, meaning in EXIT_MEANINGS.items())))

HELP = "Image generation on your own GPUs, where every fact is an event in a durable log."

app = ForgeTyper(
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.callback(help=HELP)(main)
app.command()(demo.demo)
app.command()(up.up)
app.command()(down.down)
app.command()(status.status)
app.command()(logs.logs)
app.command()(status.env)
app.command()(audit.audit)
app.command()(with_gateway(generate.generate))
app.command()(with_gateway(rerun.rerun))
app.command()(with_gateway(verify.verify))
app.command("import")(with_gateway(import_picture.import_picture))
app.add_typer(certificate.app, name="certificate")
app.add_typer(jobs.app, name="jobs")
app.add_typer(batches.app, name="batches")
app.add_typer(queue.app, name="queue")
events.app.add_typer(parked.app, name="parked")
app.add_typer(events.app, name="events")
app.add_typer(models.app, name="models")
app.add_typer(runners.app, name="runners")
app.add_typer(runners.app, name="runner", hidden=True)
app.add_typer(streams.app, name="streams")
app.add_typer(keys.app, name="keys")
app.add_typer(tenants.app, name="tenants")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(projection.app, name="projection")

# Libraries that are shared with the services write logs; the command shows errors only.
logger.remove()
logger.add(sys.stderr, level="ERROR", format="{message}")
