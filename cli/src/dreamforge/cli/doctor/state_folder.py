"""The state folder: whose it is, and whether others can read it."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from dreamforge.cli.doctor.disk import existing
from dreamforge.cli.doctor.findings import Finding, fault, note, ok, warning


def check_state_folder(state_dir: Path) -> Iterator[Finding]:
    """What is found, by the folder's own mode; nothing is changed."""
    if not state_dir.exists():
        yield judge_missing(state_dir.absolute(), writable=os.access(existing(state_dir), os.W_OK))
        return
    found = state_dir.stat()
    yield judge_owner(state_dir.absolute(), found.st_uid, os.geteuid(), stat.S_IMODE(found.st_mode))


def judge_missing(folder: Path, *, writable: bool) -> Finding:
    """Before the first start."""
    if not writable:
        remedy = "run it as a user who may write there, or name another folder in FORGE_STATE_DIR"
        return fault("state folder", f"{folder} cannot be made", remedy)
    return note("state folder", f"{folder} is made by the first `dreamforge up`")


def judge_owner(folder: Path, owner: int, user: int, mode: int) -> Finding:
    """Of a folder that is there."""
    if owner != user:
        remedy = "run it as that user, or name a folder of your own in FORGE_STATE_DIR"
        return fault("state folder", f"{folder} belongs to user {owner}, and this is user {user}", remedy)
    if mode & 0o077:
        fact = f"{folder} is open to other users (mode {mode:o}), and has credentials"
        return warning("state folder", fact, f"`chmod 700 {folder}`, or start `dreamforge up`, which closes it")
    return ok("state folder", f"{folder} is for this user alone")
