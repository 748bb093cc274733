"""`.forge/stack.json`: what runs in this folder, where and as which process, for as long as it runs."""

import os
from pathlib import Path

from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

RECORD_NAME = "stack.json"


class RunningProcess(BaseModel):
    """One server or service of a stack."""

    model_config = ConfigDict(frozen=True)

    name: str
    pid: int
    address: str
    log: Path
    restarts: int = 0


class StackRecord(BaseModel):
    """A running stack. `identity` tells its process from a later one with the same pid.

    `ready` once every service has answered that it works.
    `settings` are the FORGE_* variables that reach its servers, credentials included: the file is 0600.
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

    @property
    def lives(self) -> bool:
        """Whether the process that wrote it still runs; never where the servers of a stack are not installed."""
        try:
            from dreamforge.runtime.embedded.processes import identity
        except ModuleNotFoundError:
            return False
        return identity(self.pid) == self.identity


def write_record(record: StackRecord, state_dir: Path) -> None:
    """Put the record in place, complete or not at all."""
    final = state_dir / RECORD_NAME
    draft = final.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(record.model_dump_json(indent=2) + "\n")
    draft.replace(final)


def read_record(state_dir: Path) -> StackRecord | None:
    """The record of the stack that runs with this folder; None when none does, whatever a dead one left."""
    try:
        record = StackRecord.model_validate_json((state_dir / RECORD_NAME).read_bytes())
    except (OSError, ValidationError):
        return None
    return record if record.lives else None


def remove_record(state_dir: Path) -> None:
    """The stack has ended."""
    (state_dir / RECORD_NAME).unlink(missing_ok=True)
