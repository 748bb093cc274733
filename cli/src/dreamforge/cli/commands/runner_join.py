"""`dreamforge runner join`: this machine renders for a stack on another one."""

import sys
from pathlib import Path
from typing import Annotated

import httpx
import typer

from dreamforge.cli.commands.up import RendererChoice
from dreamforge.cli.console import err, run
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.local_parts import require_local_parts
from dreamforge.cli.remote.membership import Membership
from dreamforge.cli.settings import CliSettings, from_environment
from dreamforge.runtime.tls.client_context import client_context

STDIN = "-"


def join(
    token: Annotated[
        str | None,
        typer.Argument(
            help="What `dreamforge runner add NAME` printed; - reads it from standard input. Kept for later calls."
        ),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Bring only this model, repeated for several; default: all that are there.")
    ] = None,
    no_models: Annotated[bool, typer.Option("--no-models", help="Bring no model.")] = False,
    renderer: Annotated[
        RendererChoice | None,
        typer.Option(help="synthetic renders mosaics without a model; default: diffusers."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not print the log of the runner.")] = False,
) -> None:
    """Render for a stack on another machine, in the foreground, until Ctrl-C.

    The token says where that machine is and proves it; certificate and credential are kept in .forge/joined (0600).
    Models are brought from there and checked. Without a token, the runner of the last one is started again.
    This machine needs no open port.

    Examples:

      dreamforge runner join forge-join-1.eyJ...
      dreamforge runner join
    """
    require_local_parts()
    text = sys.stdin.readline() if token == STDIN else token
    synthetic = renderer is RendererChoice.SYNTHETIC
    wanted = None if no_models or synthetic else tuple(model or ())
    run(_join(from_environment(), text, wanted, str(renderer) if renderer else None, quiet=quiet))


async def _join(
    settings: CliSettings, text: str | None, wanted: tuple[str, ...] | None, renderer: str | None, *, quiet: bool
) -> None:
    """`wanted`: ids of models, () for all, None for none."""
    from dreamforge.cli.remote import first_machine
    from dreamforge.cli.remote.serve_runner import RunnerChoice, serve_runner
    from dreamforge.cli.stack.plan import RUNNER_DRAIN_SECONDS
    from dreamforge.runtime.remote.token import parse_join_token

    membership = Membership(settings.state_dir.absolute())
    models_dir = (settings.runner_models_dir or membership.state_dir / "models").absolute()
    if text is not None:
        token = parse_join_token(text)
        machine, authority = await first_machine.join(token)
        membership.keep(machine, authority, token.seed)
        err.print(f"joined {machine.url} as runner {token.runner_id}", markup=False)
    if wanted is not None and (settings.runner_renderer != "synthetic" or renderer):
        await _bring_models(membership, wanted, models_dir, required=text is not None, quiet=quiet)
    drain_seconds = settings.runner_drain_seconds
    choice = RunnerChoice(models_dir, renderer, RUNNER_DRAIN_SECONDS if drain_seconds is None else drain_seconds)
    await serve_runner(membership, choice, quiet=quiet)


async def _bring_models(
    membership: Membership, wanted: tuple[str, ...], models_dir: Path, *, required: bool, quiet: bool
) -> None:
    """Bring what is missing. `required`: whether a first machine that does not answer is an error."""
    from dreamforge.cli.remote import models
    from dreamforge.cli.remote.first_machine import ask_access, first_machine

    machine = membership.machine()
    context = client_context(membership.authority_file, "the authority of the first machine")
    assert context is not None
    async with first_machine(machine.url, context, membership.seed(), machine.access.runner_id) as client:
        try:
            await ask_access(client, machine.access.runner_id)
            found = models.chosen(await models.models_there(client), wanted)
        except (httpx.HTTPError, CommandError) as error:
            if required or (isinstance(error, CommandError) and error.exit_code is not Exit.UNAVAILABLE):
                raise
            err.print(f"the first machine does not answer, so no models are looked for: {error}", markup=False)
            return
        for each in found:
            await models.bring(client, each, models_dir, quiet=quiet)
