"""`.forge/stack.json`: addresses and processes of the stack that runs in this folder; removed when it stops."""

import os
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from dreamforge.runtime.private_folder import open_private

RECORD_NAME = "stack.json"
# The other processes of a stack are services, which answer /readyz.
SERVERS = ("nats", "postgres", "s3")


class RunningProcess(BaseModel):
    """One server or service of a stack."""

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int
    address: str
    log: Path
    restarts: int = 0


class RemoteListener(BaseModel):
    """Where a stack takes runners of other machines (host:port each), and the fingerprint of its authority."""

    model_config = ConfigDict(frozen=True)

    addresses: tuple[str, ...]
    fingerprint: str


class StackRecord(BaseModel):
    """A running stack. `identity` distinguishes its process from a later one with the same pid.

    `ready` is true once every service reported readiness.
    `settings` are the FORGE_* variables of its servers, including credentials: the file has mode 0600.
    """

    model_config = ConfigDict(frozen=True)

    pid: int
    identity: str
    started_at: AwareDatetime
    ready: bool = True
    folder: Path
    gateway_url: str
    settings: dict[str, str]
    processes: tuple[RunningProcess, ...]
    remote: RemoteListener | None = None

    @property
    def is_running(self) -> bool:
        """Whether the process that wrote it still runs; False if the servers of a stack are not installed."""
        try:
            from dreamforge.runtime.embedded.processes import identity
        except ModuleNotFoundError:
            return False
        return identity(self.pid) == self.identity


def write_record(record: StackRecord, state_dir: Path) -> None:
    """Write the record atomically."""
    final = state_dir / RECORD_NAME
    draft = final.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(record.model_dump_json(indent=2) + "\n")
    draft.replace(final)


def read_record(state_dir: Path) -> StackRecord | None:
    """The record of the stack that runs with this folder; None without one. Ignores the record of a dead process.

    Errors: NotPrivate where another user has put it there: it names the servers that credentials are sent to.
    """
    try:
        with os.fdopen(open_private(state_dir / RECORD_NAME, os.O_RDONLY), "rb") as file:
            record = StackRecord.model_validate_json(file.read())
    except (OSError, ValidationError):
        return None
    return record if record.is_running else None


def remove_record(state_dir: Path) -> None:
    """Delete the record of a stack that has stopped."""
    (state_dir / RECORD_NAME).unlink(missing_ok=True)
