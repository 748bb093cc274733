"""Errors of downloading a model."""

from dataclasses import dataclass

from dreamforge.contracts.errors import Conflict, ForgeError, InvalidInput, LimitReached

MIB = 2**20


@dataclass(eq=False)
class DownloadFailed(ForgeError):
    """A file could not be downloaded, or is not the expected one."""

    code = "download_failed"
    path: str
    url: str
    reason: str

    def __str__(self) -> str:
        return f"cannot download {self.path} from {self.url}: {self.reason}"


@dataclass(eq=False)
class DiskFull(LimitReached):
    """The disk has not enough space for the model."""

    code = "disk_full"
    folder: str
    needed_bytes: int
    free_bytes: int

    def __str__(self) -> str:
        needed, free = self.needed_bytes / MIB, self.free_bytes / MIB
        return f"{self.folder} has {free:,.1f} MiB free, but {needed:,.1f} MiB more are needed"


@dataclass(eq=False)
class DownloadRunning(Conflict):
    """Another process downloads into the same folder."""

    code = "download_running"
    folder: str

    def __str__(self) -> str:
        return f"another download into {self.folder} is running: wait for it, or stop it"


@dataclass(eq=False)
class FileListMissing(InvalidInput):
    """The files of a model cannot be determined."""

    code = "nothing_listed"
    model_id: str
    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where} does not list the files of {self.model_id}: {self.reason}"


@dataclass(eq=False)
class FolderTaken(Conflict):
    """A folder that is not proved to be the model's own: nothing is written into it or deleted from it."""

    code = "model_folder_taken"
    folder: str
    model_id: str
    reason: str

    def __str__(self) -> str:
        return f"{self.folder} cannot be the folder of {self.model_id}: {self.reason}"


@dataclass(eq=False)
class RegisteredWithOtherFiles(Conflict):
    """The id belongs to a model with other files, whose jobs would find no runner any more."""

    code = "model_id_taken"
    model_id: str
    registered_digest: str
    digest: str

    def __str__(self) -> str:
        return (
            f"{self.model_id} is already registered with other files (digest {self.registered_digest[:12]}, these have"
            f" {self.digest[:12]}): choose another id, or replace that model with --replace"
        )
