"""The users of an embedded NATS: a seed for each service and runner of this machine, in a file of its own (0600).

Of runners elsewhere (`dreamforge runner add`) only the public key is kept. `users.conf` is made from both.
"""

from collections.abc import Collection
from datetime import datetime
from pathlib import Path

from dreamforge.contracts.log.permissions import RUNNER_USERS, SERVICES, runner_user
from dreamforge.runtime.embedded.folder import kept_secrets, new_secret
from dreamforge.runtime.private_folder import replace_private
from dreamforge.runtime.remote.credentials import RunnerCredentials

FOLDER, CONFIGURATION = "users", "users.conf"
SEED = ".seed"


def seed_file(folder: Path, user: str) -> Path:
    """The file with the seed of a user of this machine."""
    return folder / FOLDER / f"{user}{SEED}"


def write_users(folder: Path, password: str, runner_ids: Collection[str], prefix: str) -> None:
    """Make the seeds that are missing, and `users.conf` with the services, these runners and those that were added."""
    from dreamforge.runtime.log.names import Names
    from dreamforge.runtime.log.seeds import new_seed, public_key_of
    from dreamforge.runtime.log.users_text import users_text

    (folder / FOLDER).mkdir(mode=0o700, exist_ok=True)
    keys: dict[str, str] = {runner_user(name): key for name, key in credentials_of(folder).all().items()}
    for user in (*SERVICES, *map(runner_user, runner_ids)):
        path = seed_file(folder, user)
        if not path.exists():
            replace_private(path, new_seed() + "\n")
        keys[user] = public_key_of(path.read_text(encoding="ascii"))
    replace_private(folder / CONFIGURATION, users_text(password, keys.items(), Names(prefix)))


def rewrite_users(folder: Path, prefix: str) -> None:
    """`users.conf` once more, after a runner was added or removed."""
    write_users(folder, password_of(folder), local_runners(folder), prefix)


def password_of(folder: Path) -> str:
    """The administrator's; older releases used the same text as the token of all."""
    return kept_secrets(folder / "credentials.json", lambda: {"token": f"forge_{new_secret()}"})["token"]


def local_runners(folder: Path) -> tuple[str, ...]:
    """Runners of this machine that have a seed here."""
    found = sorted((folder / FOLDER).glob(f"{RUNNER_USERS}*{SEED}"))
    return tuple(path.stem.removeprefix(RUNNER_USERS) for path in found)


def credentials_of(folder: Path) -> RunnerCredentials:
    """Those of runners that were added by hand."""
    return RunnerCredentials(folder / FOLDER)


def remove_expired(folder: Path, prefix: str, now: datetime) -> tuple[str, ...]:
    """Take away the credentials that were not used in time; whose they were. The server is then to be told."""
    credentials = credentials_of(folder)
    expired = credentials.expired(now)
    for runner_id in expired:
        credentials.remove(runner_id)
    if expired:
        rewrite_users(folder, prefix)
    return expired
