"""The secrets of a local stack that the log cannot give back: what seals the secrets of webhooks."""

import os
import shutil
from pathlib import Path

from dreamforge.cli.backups.manifest import flush
from dreamforge.cli.failure import CommandError, Exit

FOLDER = "secrets"
# Users and passwords of the embedded servers are made anew; settings that name others are not ours to keep.
KEPT = ("secrets.json",)


def save_secrets(state_dir: Path, folder: Path) -> tuple[str, ...]:
    """Copy them, for the owner of the backup alone; their names."""
    found = tuple(name for name in KEPT if (state_dir / name).is_file())
    if found:
        (folder / FOLDER).mkdir(mode=0o700, exist_ok=True)
    for name in found:
        _copy(state_dir / name, folder / FOLDER / name)
    return found


def restore_secrets(folder: Path, names: tuple[str, ...], state_dir: Path) -> None:
    """Put them where `up` looks for them. Errors: CommandError where others are there."""
    for name in names:
        saved, target = folder / FOLDER / name, state_dir / name
        if not target.exists():
            _copy(saved, target)
        elif target.read_bytes() != saved.read_bytes():
            hint = "move it away: with it, the secrets of the webhooks in the backup cannot be read"
            raise CommandError("there are other secrets already", Exit.REFUSED, {"file": str(target)}, hint)


def _copy(source: Path, target: Path) -> None:
    draft = target.with_name(f"{target.name}.draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, source.open("rb") as original:
        shutil.copyfileobj(original, file)
        flush(file.fileno(), file)
    draft.replace(target)
