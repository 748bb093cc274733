"""`dreamforge runner add` and `remove`: the credential with which a runner connects to NATS, as itself only."""

import os
import signal
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from dreamforge.cli.console import Json, emit, err, out
from dreamforge.cli.failure import CommandError
from dreamforge.cli.settings import CliSettings, from_environment
from dreamforge.cli.stack_record import RemoteListener, read_record
from dreamforge.contracts.token import Token
from dreamforge.runtime import clock
from dreamforge.runtime.remote.token import JoinToken

NameArgument = Annotated[str, typer.Argument(help="The runner's id, its FORGE_RUNNER_ID.")]


def add(
    name: NameArgument,
    hours: Annotated[float, typer.Option(min=0.01, help="How long the token can be used for the first time.")] = 24.0,
    json: Json = False,
) -> None:
    """Make a credential for a runner; print the one command that starts it on another machine.

    Where this folder's stack takes runners of other machines (`dreamforge up --listen 0.0.0.0`), that is
    `dreamforge runner join TOKEN`. Otherwise the seed is printed: this once, since only its public key is kept; for
    another NATS than that of `dreamforge up`, with the block for its configuration. Adding a runner again replaces its
    credential.

    Examples:

      dreamforge runner add gpu-2
      (umask 077; dreamforge runner add gpu-2 > gpu-2.seed)
    """
    from dreamforge.contracts.log.permissions import runner_user
    from dreamforge.runtime.log.names import Names
    from dreamforge.runtime.log.seeds import new_seed, public_key_of
    from dreamforge.runtime.log.users_text import user_block

    require_runner_id(name)
    settings, seed = from_environment(), new_seed()
    key, embedded, record = public_key_of(seed), _embedded(settings), read_record(settings.state_dir)
    token = None
    if embedded is not None:
        if record is not None and record.remote is not None:
            expires_at = clock.now() + timedelta(hours=hours)
            token = _token(name, seed, expires_at, record.remote)
        _keep(settings, embedded, name, key, token)
    block = user_block(runner_user(name), key, Names(settings.nats_prefix)) if embedded is None else None
    command = f"dreamforge runner join {token.encoded()}" if token else None
    if json:
        emit({"runner_id": name, "seed": seed, "public_key": key, "configuration": block, "command": command})
    elif token and command:
        _print_command(token, command)
    else:
        _print_seed(name, seed, block)


def _token(name: str, seed: str, expires_at: datetime, remote: RemoteListener) -> JoinToken:
    return JoinToken(
        runner_id=name,
        addresses=remote.addresses,
        fingerprint=remote.fingerprint,
        seed=seed,
        expires_at=expires_at.replace(microsecond=0),
    )


def _keep(settings: CliSettings, embedded: Path, name: str, key: str, token: JoinToken | None) -> None:
    """Let the embedded NATS know it. Errors: CommandError for a runner that `up` starts itself."""
    from dreamforge.runtime.embedded import nats_users

    if name in nats_users.local_runners(embedded):
        hint = "choose another id; what `up` starts has credentials already"
        raise CommandError(f"runner {name} is one that `dreamforge up` starts here", hint=hint)
    nats_users.credentials_of(embedded).add(name, key, token.expires_at if token else None)
    _reload(settings, embedded)


def _print_command(token: JoinToken, command: str) -> None:
    out.print(command, markup=False, soft_wrap=True)
    until, where = f"{token.expires_at:%Y-%m-%d %H:%M} UTC", ", ".join(token.addresses)
    lines = (
        f"runner {token.runner_id}: run this on the other machine, until {until}.",
        "It holds the runner's secret and is not shown again.",
        f"It connects to {where} and the port of NATS: both must be reachable from there.",
    )
    for line in lines:
        err.print(line, markup=False, soft_wrap=True)


def _print_seed(name: str, seed: str, block: str | None) -> None:
    out.print(seed, markup=False, soft_wrap=True)
    err.print(f"runner {name}: keep this seed now, it is not shown again. Its process gets", markup=False)
    err.print(f"  FORGE_RUNNER_ID={name} FORGE_NATS_SEED_FILE=(a file of mode 0600 with it)", markup=False)
    if block is not None:
        err.print("and the configuration of nats-server this user, then `nats-server --signal reload`:", markup=False)
        err.file.write(block)
        return
    err.print("No stack of this folder takes runners of other machines now. For a second machine, start it with")
    err.print("  dreamforge up --listen 0.0.0.0")
    err.print(f"and call `dreamforge runner add {name}` again, which then prints the command for that machine.")


def remove(name: NameArgument, json: Json = False) -> None:
    """Take a runner's credential away, and close its connections; for the NATS of `dreamforge up` in this folder."""
    require_runner_id(name)
    settings = from_environment()
    embedded = _embedded(settings)
    if embedded is None:
        hint = "remove its user from the configuration of nats-server, then `nats-server --signal reload`"
        raise CommandError("the NATS of this installation is not one that `dreamforge up` runs here", hint=hint)
    from dreamforge.runtime.embedded import nats_users

    removed = nats_users.credentials_of(embedded).remove(name)
    _reload(settings, embedded)
    if json:
        emit({"runner_id": name, "removed": removed})
        return
    out.print(f"runner {name} is removed" if removed else f"runner {name} was not added here", markup=False)


def require_runner_id(name: str) -> None:
    """Errors: CommandError for a name that no runner can have."""
    try:
        TypeAdapter(Token).validate_python(name)
    except ValidationError:
        raise CommandError(f"{name!r} cannot be the id of a runner: 1 to 64 letters, digits, - and _") from None


def _embedded(settings: CliSettings) -> Path | None:
    """The folder of the NATS that `up` runs for this folder; None where settings name another server."""
    folder = settings.state_dir.absolute() / "nats"
    return folder if "nats_url" not in settings.model_fields_set and (folder / "credentials.json").exists() else None


def _reload(settings: CliSettings, folder: Path) -> None:
    """Write the users, and tell a server that runs."""
    from dreamforge.runtime.embedded import nats_users

    nats_users.rewrite_users(folder, settings.nats_prefix)
    record = read_record(settings.state_dir)
    for process in record.processes if record is not None else ():
        if process.name == "nats":
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGHUP)
