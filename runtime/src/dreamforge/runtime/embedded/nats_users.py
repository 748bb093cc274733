"""The users of an embedded NATS: a seed for each service and runner of this machine, in a file of its own (0600).

Of runners elsewhere (`dreamforge runner add`) only the public key is kept. `users.conf` is made from both.
"""

import os
from collections.abc import Collection
from pathlib import Path

from dreamforge.contracts.log.permissions import RUNNER_USERS, SERVICES, runner_user
from dreamforge.runtime.embedded.folder import kept_secrets, new_secret

FOLDER, CONFIGURATION = "users", "users.conf"
SEED, PUBLIC = ".seed", ".public"


def seed_file(folder: Path, user: str) -> Path:
    """The file with the seed of a user of this machine."""
    return folder / FOLDER / f"{user}{SEED}"


def write_users(folder: Path, password: str, runner_ids: Collection[str], prefix: str) -> None:
    """Make the seeds that are missing, and `users.conf` with the services, these runners and those that were added."""
    from dreamforge.runtime.log.names import Names
    from dreamforge.runtime.log.seeds import new_seed, public_key_of
    from dreamforge.runtime.log.users_text import users_text

    (folder / FOLDER).mkdir(mode=0o700, exist_ok=True)
    keys: dict[str, str] = {runner_user(name): key for name, key in added_runners(folder).items()}
    for user in (*SERVICES, *map(runner_user, runner_ids)):
        path = seed_file(folder, user)
        if not path.exists():
            _replace(path, new_seed() + "\n")
        keys[user] = public_key_of(path.read_text(encoding="ascii"))
    _replace(folder / CONFIGURATION, users_text(password, keys.items(), Names(prefix)))


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


def added_runners(folder: Path) -> dict[str, str]:
    """Runners that were added by hand, with their public keys."""
    found = sorted((folder / FOLDER).glob(f"{RUNNER_USERS}*{PUBLIC}"))
    return {path.stem.removeprefix(RUNNER_USERS): path.read_text(encoding="ascii").strip() for path in found}


def add_runner(folder: Path, runner_id: str, public_key: str) -> None:
    """Keep the public key of a runner, in place of the one before."""
    (folder / FOLDER).mkdir(mode=0o700, exist_ok=True)
    _replace(_public_file(folder, runner_id), public_key + "\n")


def remove_runner(folder: Path, runner_id: str) -> bool:
    """Forget a runner that was added; whether there was one."""
    path = _public_file(folder, runner_id)
    found = path.exists()
    path.unlink(missing_ok=True)
    return found


def _public_file(folder: Path, runner_id: str) -> Path:
    return folder / FOLDER / f"{runner_user(runner_id)}{PUBLIC}"


def _replace(path: Path, text: str) -> None:
    """Write a private file so that a reader sees the whole old one or the whole new one."""
    draft = path.with_name(path.name + ".draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)
