"""One runner a card: a lock in a folder of this user, held for as long as the process lives.

A flock, so that it ends with its holder however that dies. Runners that share a card hold the lock together, each in a
place of its own.
"""

import asyncio
import fcntl
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dreamforge.contracts.errors import ForgeError
from dreamforge.gpu_runner.machine.device import LocalDevice
from dreamforge.runtime.private_folder import make_private, open_private

#: `kill -9` returns before the process is gone, and a card is free only then.
WAIT_SECONDS, RETRY_SECONDS = 2.0, 0.05


@dataclass(eq=False)
class DeviceInUse(ForgeError):
    """Another runner renders on this card."""

    code = "device_in_use"
    device: str
    uuid: str
    holder: str

    def __str__(self) -> str:
        return (
            f"{self.device} ({self.uuid}) is used by {self.holder}: start one runner a card (FORGE_RUNNER_GPU_INDEX),"
            " or set FORGE_RUNNER_DEVICE_SHARES=2 for both, of which each then uses half of the memory"
        )


def lock_folder(environment: Mapping[str, str]) -> Path:
    """Where this user's runners find each other's locks, whatever their state folders are."""
    if runtime_dir := environment.get("XDG_RUNTIME_DIR"):
        return Path(runtime_dir) / "dreamforge"
    return Path(tempfile.gettempdir()) / f"dreamforge-{os.getuid()}"


class DeviceLock:
    """The locks of one runner on one card."""

    def __init__(self, folder: Path, device: LocalDevice, *, shares: int = 1) -> None:
        self._folder, self._device, self._shares = folder, device, shares
        self._held: list[IO[str]] = []

    async def acquire(self, holder: str) -> None:
        """Take them; `holder` is what others are told. Errors: DeviceInUse, after a moment; NotPrivate."""
        make_private(self._folder)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not self._try(holder):  # noqa: ASYNC110 - flock has no event
                    await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError:
            raise DeviceInUse(self._device.name, self._device.uuid, self._holders()) from None

    def release(self) -> None:
        """Give them back."""
        for file in self._held:
            file.close()
        self._held.clear()

    def _try(self, holder: str) -> bool:
        """One that is alone locks the card against all; those that share it lock a place, and it against one alone."""
        kind = fcntl.LOCK_EX if self._shares == 1 else fcntl.LOCK_SH
        if self._lock("", kind, holder) and any(
            self._lock(f"-{n}", fcntl.LOCK_EX, holder) for n in range(self._shares)
        ):
            return True
        self.release()
        return False

    def _lock(self, place: str, kind: int, holder: str) -> bool:
        file = os.fdopen(open_private(self._path(place), os.O_RDWR | os.O_CREAT), "r+", encoding="utf-8")
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._held.append(file)
        if kind == fcntl.LOCK_EX:
            file.truncate(0)
            file.write(holder)
            file.flush()
        return True

    def _path(self, place: str) -> Path:
        return self._folder / f"{self._device.uuid}{place}.lock"

    def _holders(self) -> str:
        """Who is in the places. One alone is in the first. A place that is free names one that is gone."""
        numbers = range(len(list(self._folder.glob(f"{self._device.uuid}-*.lock"))))
        held = [f"-{number}" for number in numbers if not self._lock(f"-{number}", fcntl.LOCK_SH, "")]
        self.release()
        return ", ".join(self._path(place).read_text(encoding="utf-8") for place in held) or "another runner"
