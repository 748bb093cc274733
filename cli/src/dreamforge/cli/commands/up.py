"""`dreamforge up`: runs the whole stack in the foreground until it is stopped."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from dreamforge.cli.console import run
from dreamforge.cli.local_parts import require_local_parts
from dreamforge.cli.service_settings import require_valid
from dreamforge.cli.settings import from_environment

if TYPE_CHECKING:
    from dreamforge.cli.stack.plan import StackOptions


class RendererChoice(StrEnum):
    """The renderer of the runners."""

    DIFFUSERS = "diffusers"
    SYNTHETIC = "synthetic"


def up(
    port: Annotated[int | None, typer.Option(help="Port of the gateway.", envvar="FORGE_GATEWAY_PORT")] = None,
    runners: Annotated[
        int | None,
        typer.Option(min=1, max=64, help="Number of runners; default: one for each GPU.", envvar="FORGE_RUNNERS"),
    ] = None,
    renderer: Annotated[
        RendererChoice | None,
        typer.Option(help="synthetic renders mosaics without a model, for benchmarks; default: diffusers."),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST",
            help="Take runners of other machines here, by TLS (0.0.0.0: all addresses): `dreamforge runner add NAME`.",
            envvar="FORGE_REMOTE_HOST",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not print the logs of services.")] = False,
) -> None:
    """Run the whole stack on this machine, in the foreground, until Ctrl-C.

    NATS, Postgres and S3 come from wheels, with their data in .forge/; to use other servers, set
    FORGE_NATS_URL, FORGE_DATABASE_URL or FORGE_S3_ENDPOINT. A service that crashes is restarted.

    While it runs, .forge/stack.json has every address and process id, and every other command reads it.

    Examples:

      dreamforge up
      FORGE_GATEWAY_PORT=8090 dreamforge up
      dreamforge up --runners 4 --renderer synthetic
      dreamforge up --listen 0.0.0.0
    """
    require_local_parts()
    from dreamforge.cli.stack.serve import serve

    settings, options = from_environment(), stack_options(port=port, runners=runners, renderer=renderer, listen=listen)
    require_valid(runner_renderer=options.renderer)
    run(serve(settings, options, quiet=quiet))


def stack_options(
    *,
    port: int | None = None,
    runners: int | None = None,
    renderer: RendererChoice | None = None,
    listen: str | None = None,
) -> "StackOptions":
    """The options of a stack: arguments, else the environment and .env, else what suits a local stack.

    Errors: CommandError for more runners than the GPUs take.
    """
    from dreamforge.cli.stack.plan import StackOptions
    from dreamforge.cli.stack.runners import gpus_of, runner_count

    settings, chosen = from_environment(), StackOptions(gateway_port=0)
    renders = str(renderer or settings.runner_renderer or chosen.renderer)
    gpus, shares = gpus_of(settings, renders), settings.runner_device_shares
    return StackOptions(
        gateway_port=port if port is not None else settings.gateway_port,
        gateway_host=settings.gateway_host,
        runners=runner_count(settings.runners if runners is None else runners, gpus, shares),
        gpus=gpus,
        shares=shares,
        renderer=renders,
        runner_id=settings.runner_id or chosen.runner_id,
        drain_seconds=chosen.drain_seconds if settings.runner_drain_seconds is None else settings.runner_drain_seconds,
        remote=settings.remote if listen is None else settings.remote.model_copy(update={"host": listen}),
    )
