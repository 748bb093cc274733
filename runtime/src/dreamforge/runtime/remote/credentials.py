"""Runners that were added by hand: the public key of each, and until when it may be used for the first time.

One small file each (`runner-ID.public`), and a second one (`runner-ID.expires`) until the runner has come: so a
credential that was never used ends by itself, and the process that lets runners in only ever deletes that file.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dreamforge.contracts.log.permissions import RUNNER_USERS, runner_user
from dreamforge.runtime.private_folder import replace_private

PUBLIC, EXPIRES = ".public", ".expires"


@dataclass(frozen=True, slots=True)
class RunnerCredentials:
    """The folder of them."""

    folder: Path

    def add(self, runner_id: str, public_key: str, expires_at: datetime | None = None) -> None:
        """Keep the public key of a runner in place of the one before; None: it does not expire."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if expires_at is None:
            self._file(runner_id, EXPIRES).unlink(missing_ok=True)
        else:
            replace_private(self._file(runner_id, EXPIRES), expires_at.isoformat() + "\n")
        replace_private(self._file(runner_id, PUBLIC), public_key + "\n")

    def remove(self, runner_id: str) -> bool:
        """Forget a runner; whether there was one."""
        found = self._file(runner_id, PUBLIC).exists()
        for suffix in (PUBLIC, EXPIRES):
            self._file(runner_id, suffix).unlink(missing_ok=True)
        return found

    def all(self) -> dict[str, str]:
        """The public key of each runner that was added."""
        found = sorted(self.folder.glob(f"{RUNNER_USERS}*{PUBLIC}"))
        return {path.stem.removeprefix(RUNNER_USERS): path.read_text(encoding="ascii").strip() for path in found}

    def key_of(self, runner_id: str, now: datetime) -> str | None:
        """The public key of a runner; None where none was added, or it was not used in time. Errors: OSError."""
        try:
            key = self._file(runner_id, PUBLIC).read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None
        return None if self._has_expired(runner_id, now) else key

    def used(self, runner_id: str) -> None:
        """It has come: its credential holds until it is removed."""
        self._file(runner_id, EXPIRES).unlink(missing_ok=True)

    def expired(self, now: datetime) -> tuple[str, ...]:
        """Runners whose credential was not used in time."""
        return tuple(runner_id for runner_id in self.all() if self._has_expired(runner_id, now))

    def _has_expired(self, runner_id: str, now: datetime) -> bool:
        try:
            text = self._file(runner_id, EXPIRES).read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return False
        return now >= datetime.fromisoformat(text)

    def _file(self, runner_id: str, suffix: str) -> Path:
        return self.folder / f"{runner_user(runner_id)}{suffix}"
