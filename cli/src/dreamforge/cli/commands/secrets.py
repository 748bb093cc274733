"""`dreamforge secrets`: every secret of a new installation on servers of one's own, as files for containers."""

import os
from pathlib import Path
from typing import Annotated

import typer

from dreamforge.cli.commands.runner_users import require_runner_id
from dreamforge.cli.console import Json, emit, err, out
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.settings import from_environment
from dreamforge.contracts.log.permissions import SERVICES, runner_user
from dreamforge.runtime.ids import new_secret
from dreamforge.runtime.log.names import Names
from dreamforge.runtime.log.seeds import new_seed, public_key_of
from dreamforge.runtime.log.users_text import users_text
from dreamforge.runtime.private_folder import PRIVATE_FILE, make_private


def secrets(
    folder: Annotated[Path, typer.Argument(help="Folder for the files; made with mode 0700, must be empty.")],
    runner: Annotated[
        list[str] | None, typer.Option(help="Id of a runner, repeated for several; default: gpu-1.")
    ] = None,
    nats: Annotated[str, typer.Option(help="host:port of NATS, as services reach it.")] = "nats:4222",
    postgres: Annotated[str, typer.Option(help="host:port of Postgres, as services reach it.")] = "postgres:5432",
    owner: Annotated[
        int | None, typer.Option(min=0, help="User id that owns the files: that of the containers. Needs root.")
    ] = None,
    json: Json = False,
) -> None:
    """Make every secret of a new installation, one file each, and the users of its NATS server.

    Containers get them as files (FORGE_NATS_SEED_FILE, FORGE_DATABASE_URL_FILE ...), and the server's configuration
    includes users.conf. Keep the folder: nothing else has what is in it.

    Example: dreamforge secrets deploy/compose/secrets --runner gpu-1 --runner gpu-2
    """
    runners = runner or ["gpu-1"]
    for each in runners:
        require_runner_id(each)
    if folder.is_dir() and any(folder.iterdir()):
        facts, hint = {"folder": str(folder)}, "name a new one: secrets that are in use are never written over"
        raise CommandError("there are files already", Exit.IN_USE, facts, hint)
    make_private(folder)
    made = contents(runners, nats=nats, postgres=postgres, prefix=from_environment().nats_prefix)
    for name, text in made.items():
        _write(folder / name, text, owner)
    if owner is not None:
        os.chown(folder, owner, -1)
    if json:
        emit({"folder": str(folder), "files": sorted(made)})
        return
    out.print(f"{len(made)} files in {folder}: {', '.join(sorted(made))}", markup=False)
    err.print("nothing else has what is in them: keep a copy where only you can read it", style="dim")


def contents(runners: list[str], *, nats: str, postgres: str, prefix: str = "") -> dict[str, str]:
    """The files by name. Different at each call."""
    admin, database, store, webhooks = (new_secret() for _ in range(4))
    users = [*SERVICES, *map(runner_user, runners)]
    seeds = {user: new_seed() for user in users}
    public = [(user, public_key_of(seed)) for user, seed in seeds.items()]
    return {
        **{f"{user}.seed": seed for user, seed in seeds.items()},
        "users.conf": users_text(admin, public, Names(prefix)),
        "nats_admin_url": f"nats://admin:{admin}@{nats}",
        "postgres_password": database,
        "database_url": f"postgresql://forge:{database}@{postgres}/forge",
        "s3_secret_key": store,
        "s3_auth_key": f"forge,{store}",
        "webhook_key": webhooks,
    }


def _write(path: Path, text: str, owner: int | None) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        if owner is not None:
            os.fchown(file.fileno(), owner, -1)
