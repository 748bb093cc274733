"""Errors of embedded servers, each with what the reader can do about it."""

from dataclasses import dataclass
from pathlib import Path

from dreamforge.contracts.errors import ForgeError


@dataclass(eq=False)
class EmbeddedError(ForgeError):
    """An embedded server, or a process we guard, could not be started or did not stay up."""

    code = "embedded_server"
    server: str
    reason: str
    log_path: Path | None = None

    def __str__(self) -> str:
        where = f" (full log: {self.log_path})" if self.log_path else ""
        return f"{self.server}: {self.reason}{where}"


@dataclass(eq=False)
class FolderInUse(EmbeddedError):
    """Another living process runs its servers in this folder."""

    code = "embedded_folder_in_use"
    owner_pid: int = 0


@dataclass(eq=False)
class PortInUse(EmbeddedError):
    """Another process listens on the port that was given."""

    code = "embedded_port_in_use"
    port: int = 0
