"""PostgreSQL refuses to run as root: chooses the user that it runs as instead, without opening folders to others."""

import os
import pwd
import stat
from collections.abc import Iterable
from pathlib import Path

from dreamforge.runtime.embedded.errors import EmbeddedError
from dreamforge.runtime.embedded.guard import RunAs

CANDIDATES = ("postgres", "nobody")  # initdb needs a user that has a name; every system has one of the two


def unprivileged_user(data_folder: Path, must_reach: Iterable[Path]) -> RunAs | None:
    """The user to run as: None (our own) unless we are root, else the owner of existing data, else a candidate.

    Errors: EmbeddedError when no candidate exists.
    """
    if os.geteuid() != 0:
        return None
    traverse = not all(open_to_others(path) for path in must_reach)
    if data_folder.exists():
        owner = data_folder.stat()
        return RunAs(owner.st_uid, owner.st_gid, traverse)
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in CANDIDATES:
        if name in names:
            return RunAs(names[name].pw_uid, names[name].pw_gid, traverse)
    raise EmbeddedError("postgres", f"it cannot run as root, and none of the users {CANDIDATES} exists")


def open_to_others(path: Path) -> bool:
    """Whether every user may pass through this folder and all above it."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.resolve().parents))


def give_to(run_as: RunAs | None, *paths: Path) -> None:
    """Make it the owner of these paths; nothing to do when it is our own user."""
    if run_as is not None:
        for path in paths:
            os.chown(path, run_as.uid, run_as.gid)
