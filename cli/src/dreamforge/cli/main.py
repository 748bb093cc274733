"""Entry point of the command `dreamforge`: wiring only."""

import asyncio
import sys
from typing import Annotated, Any

import typer
from loguru import logger

from dreamforge.cli import console
from dreamforge.cli.command_group import Gateway
from dreamforge.cli.command_table import TableGroup
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
        from importlib.metadata import version

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
    cls=TableGroup,
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.callback(help=HELP)(main)

# httpx has a command of its own, and leaves it out where it cannot be imported: it costs each of ours 30 ms.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # None: not to be imported

# Libraries that are shared with the services write logs; the command shows errors only.
logger.remove()
logger.add(sys.stderr, level="ERROR", format="{message}")
