"""`dreamforge up`: the whole stack in the foreground until somebody stops it."""

from enum import StrEnum
from importlib.util import find_spec
from typing import Annotated

import typer

from dreamforge.cli.console import run
from dreamforge.cli.failure import CommandError
from dreamforge.cli.settings import said
from dreamforge.cli.stack.plan import StackOptions

# A remote client has none of these; a local stack needs them all.
LOCAL_PARTS = ("dreamforge.gateway", "dreamforge.scheduler", "dreamforge.gpu_runner", "dreamforge.projector", "psycopg")


class Renderer(StrEnum):
    """What runners paint with."""

    DIFFUSERS = "diffusers"
    SYNTHETIC = "synthetic"


def up(
    port: Annotated[int | None, typer.Option(help="Port of the gateway.", envvar="FORGE_GATEWAY_PORT")] = None,
    runners: Annotated[int, typer.Option(min=1, max=64, help="How many runners.")] = 1,
    renderer: Annotated[
        Renderer, typer.Option(help="synthetic paints mosaics without a model, for benchmarks.")
    ] = Renderer.DIFFUSERS,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not print what services log.")] = False,
) -> None:
    """Run the whole stack here, in the foreground, until Ctrl-C.

    NATS, Postgres and S3 come from wheels, with their data in .forge/; name your own instead with
    FORGE_NATS_URL, FORGE_DATABASE_URL or FORGE_S3_ENDPOINT. A service that crashes is started again.

    While it runs, .forge/stack.json tells every address and process id, and every other command finds it.

    Examples:

      dreamforge up
      FORGE_GATEWAY_PORT=8090 dreamforge up
      dreamforge up --runners 4 --renderer synthetic
    """
    require_local_parts()
    from dreamforge.cli.stack.serve import serve

    settings = said()
    options = StackOptions(
        gateway_port=port if port is not None else settings.gateway_port,
        gateway_host=settings.gateway_host,
        runners=runners,
        renderer=renderer,
    )
    run(serve(settings, options, quiet=quiet))


def require_local_parts() -> None:
    """Errors: CommandError when only the command itself is installed, without servers and services."""
    if missing := [name for name in LOCAL_PARTS if find_spec(name) is None]:
        hint = "pip install 'dreamforge-cli[local]', or run `task setup` in a checkout"
        raise CommandError("this installation cannot run a stack", facts={"missing": ", ".join(missing)}, hint=hint)
