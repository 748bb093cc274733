"""`dreamforge runner add` and `remove`: the credential with which a runner connects to NATS, as itself only."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from dreamforge.cli.console import Json, emit, err, out
from dreamforge.cli.failure import CommandError
from dreamforge.cli.settings import CliSettings, from_environment
from dreamforge.cli.stack_record import read_record
from dreamforge.contracts.log.permissions import runner_user
from dreamforge.contracts.models.descriptor import Token
from dreamforge.runtime.log.names import Names
from dreamforge.runtime.log.seeds import new_seed, public_key_of
from dreamforge.runtime.log.users_text import user_block

NameArgument = Annotated[str, typer.Argument(help="The runner's id, its FORGE_RUNNER_ID.")]


def add(name: NameArgument, json: Json = False) -> None:
    """Make a credential for a runner and print it: this once, since only its public key is kept.

    The NATS of `dreamforge up` in this folder knows it at once; for another one, the block for its configuration is
    printed. Adding a runner again replaces its credential.

    Example: (umask 077; dreamforge runner add gpu-2 > gpu-2.seed)
    """
    require_runner_id(name)
    settings, seed = from_environment(), new_seed()
    key = public_key_of(seed)
    block = user_block(runner_user(name), key, Names(settings.nats_prefix))
    embedded = _embedded(settings)
    if embedded is not None:
        from dreamforge.runtime.embedded import nats_users

        if name in nats_users.local_runners(embedded):
            hint = "choose another id; what `up` starts has credentials already"
            raise CommandError(f"runner {name} is one that `dreamforge up` starts here", hint=hint)
        nats_users.add_runner(embedded, name, key)
        _reload(settings, embedded)
    if json:
        emit({"runner_id": name, "seed": seed, "public_key": key, "configuration": None if embedded else block})
        return
    out.print(seed, markup=False, soft_wrap=True)
    err.print(f"runner {name}: keep this seed now, it is not shown again. Its process gets", markup=False)
    err.print(f"  FORGE_RUNNER_ID={name} FORGE_NATS_SEED_FILE=(a file of mode 0600 with it)", markup=False)
    if embedded is None:
        err.print("and the configuration of nats-server this user, then `nats-server --signal reload`:", markup=False)
        err.file.write(block)


def remove(name: NameArgument, json: Json = False) -> None:
    """Take a runner's credential away, and close its connections; for the NATS of `dreamforge up` in this folder."""
    require_runner_id(name)
    settings = from_environment()
    embedded = _embedded(settings)
    if embedded is None:
        hint = "remove its user from the configuration of nats-server, then `nats-server --signal reload`"
        raise CommandError("the NATS of this installation is not one that `dreamforge up` runs here", hint=hint)
    from dreamforge.runtime.embedded import nats_users

    removed = nats_users.remove_runner(embedded, name)
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
