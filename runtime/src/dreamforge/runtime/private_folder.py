"""A folder for one user: it and what is in it are read, written and locked by no other but root."""

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dreamforge.contracts.errors import ForgeError

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
_OTHERS, _OTHERS_WRITE = 0o077, 0o022


@dataclass(eq=False)
class NotPrivate(ForgeError):
    """A folder or file of ours is in other hands, or could be: nothing in it is believed, and nothing is written."""

    code = "not_private"
    path: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path} {self.reason}: {self.remedy}"


def make_private(folder: Path) -> bool:
    """Make the folder, with mode 0700; one that is there is closed to others, with all that is in it.

    Whether it was open to others until now. A link is followed to a folder of ours that no other user can exchange.
    Errors: NotPrivate.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=PRIVATE_FOLDER)
        return False
    if folder.is_symlink():
        _require_safe_link(folder)
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise NotPrivate(
            str(folder), f"cannot be used ({error.strerror})", "name another in FORGE_STATE_DIR"
        ) from error
    try:
        return _close_to_others(folder, opened)
    finally:
        os.close(opened)


def _close_to_others(folder: Path, opened: int) -> bool:
    found = os.fstat(opened)
    _require_owner(folder, found)
    if not found.st_mode & _OTHERS:
        return False
    try:
        os.fchmod(opened, PRIVATE_FOLDER)
    except OSError as error:
        raise NotPrivate(str(folder), f"cannot be closed to others ({error.strerror})", "chmod 700 it") from error
    for _, names, files, here in os.fwalk(".", dir_fd=opened):
        for name in (*names, *files):
            with suppress(OSError):  # of another user, as Postgres' data of root; or it was removed meanwhile
                _close_entry(name, here)
    return True


def _close_entry(name: str, folder: int) -> None:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISLNK(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & _OTHERS:
        os.chmod(name, stat.S_IMODE(found.st_mode) & ~_OTHERS, dir_fd=folder)


def open_private(path: Path, flags: int) -> int:
    """A descriptor of a regular file of ours, made with mode 0600 if `flags` have O_CREAT; a link is not followed.

    Errors: NotPrivate, and OSError as os.open raises.
    """
    try:
        opened = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, PRIVATE_FILE)
    except OSError as error:
        if path.is_symlink():
            raise NotPrivate(str(path), "is a link", "remove it") from error
        raise
    try:
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode):
            raise NotPrivate(str(path), "is no regular file", "remove it")
        _require_owner(path, found)
        if found.st_mode & _OTHERS:
            os.fchmod(opened, PRIVATE_FILE)
    except BaseException:
        os.close(opened)
        raise
    return opened


def replace_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 so that a reader sees the whole old one or the whole new one. Errors: OSError."""
    draft = path.with_name(path.name + ".draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE), "w", encoding="utf-8") as file:
        file.write(text)
    draft.replace(path)


def _require_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        reason = f"belongs to user {found.st_uid}, and this is user {os.geteuid()}"
        raise NotPrivate(str(path), reason, "run it as that user, or name a folder of your own in FORGE_STATE_DIR")


def _require_safe_link(link: Path) -> None:
    """Errors: NotPrivate where another user made the link, or can write where it leads or exchange it on the way."""
    if link.lstat().st_uid not in (os.geteuid(), 0):
        raise NotPrivate(str(link), "is a link that another user made", "name the folder itself in FORGE_STATE_DIR")
    target = link.resolve()
    for place in (target, *target.parents):
        with suppress(FileNotFoundError):
            found = place.stat()
            sticky = place != target and found.st_mode & stat.S_ISVTX
            if found.st_mode & _OTHERS_WRITE and not sticky:
                reason = f"is a link to {target}, and others can write in {place}"
                raise NotPrivate(str(link), reason, f"chmod go-w {place}, or choose another FORGE_STATE_DIR")
