"""What can go wrong between a server and a model's folder."""

from dataclasses import dataclass

from dreamforge.contracts.errors import Conflict, ForgeError, InvalidInput, LimitReached

MIB = 2**20


@dataclass(eq=False)
class DownloadFailed(ForgeError):
    """A file did not come, or what came was not it."""

    code = "download_failed"
    path: str
    url: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path} could not be had from {self.url}: {self.reason}"


@dataclass(eq=False)
class DiskFull(LimitReached):
    """The disk has no room for the model."""

    code = "disk_full"
    folder: str
    needed_bytes: int
    free_bytes: int

    def __str__(self) -> str:
        needed, free = self.needed_bytes / MIB, self.free_bytes / MIB
        return f"{self.folder} has {free:,.1f} MiB free and {needed:,.1f} MiB more are needed: free some, or move it"


@dataclass(eq=False)
class DownloadRunning(Conflict):
    """Somebody else downloads the same model to the same place."""

    code = "download_running"
    folder: str

    def __str__(self) -> str:
        return f"another download into {self.folder} is running: wait for it, or end it"


@dataclass(eq=False)
class FileListMissing(InvalidInput):
    """Nobody says which files the model has."""

    code = "nothing_listed"
    model_id: str
    where: str
    reason: str

    def __str__(self) -> str:
        return f"which files {self.model_id} has cannot be learned from {self.where}: {self.reason}"
