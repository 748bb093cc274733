"""What the child process may not do: write but to its own folders, open a connection, signal or read another process.

The child reads files that others made, with libraries of millions of lines. It needs no network: inputs and images go
through the socket that it was started with. Reading is not restricted: models may lie anywhere, also behind links.

CUDA needs what stays: its devices (/dev/nvidia*) by `ioctl` and `mmap`, its settings below /proc and /sys, and sockets
of AF_UNIX, which the driver opens for other processes to find it. The child connects to none: the driver does so for
MPS alone, and goes on without where the connection is refused as by a server that is not there.
"""

import os
import stat
import tempfile
from pathlib import Path
from typing import Literal

from dreamforge.runtime.sandbox.privileges import CAP_DAC_READ_SEARCH
from dreamforge.runtime.sandbox.restrict import Allowed, missing, restrict_process
from dreamforge.runtime.sandbox.seccomp import Sockets

Sandbox = Literal["auto", "off", "required"]


class SandboxMissing(OSError):
    """The system cannot restrict everything, and the setting requires it."""


def enter(mode: Sandbox, writable: tuple[Path, ...] = ()) -> str:
    """Restrict this process and all that it starts; a line that says what is restricted, and what is not.

    writable: further folders that it writes to.
    To be called before any thread is started. Errors: SandboxMissing.
    """
    if mode == "off":
        return "no sandbox: FORGE_RUNNER_SANDBOX is off"
    lacking = "; ".join(missing())
    if lacking and mode == "required":
        raise SandboxMissing(f"{lacking}, and FORGE_RUNNER_SANDBOX is required")
    folder = _own_folder()
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    mps = _mps_folder()
    sockets = Sockets(unix=True, connect=mps.exists())
    restrict_process(Allowed((*_writable(folder, mps), *writable), None, sockets, CAP_DAC_READ_SEARCH))
    if lacking:
        return f"no complete sandbox: {lacking}"
    return f"sandbox: files are written only below {folder} and caches of the GPU's compilers; no network"


def _own_folder() -> str:
    """A temporary folder of this user, the same for each child, so that none is left behind by one that was killed."""
    path = os.path.join(tempfile.gettempdir(), f"dreamforge-child-{os.getuid()}")
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            return tempfile.mkdtemp(prefix="dreamforge-child-")  # another user's: it is not to be trusted
    return path


def _mps_folder() -> Path:
    """Where the server of NVIDIA's MPS listens, if one runs: processes share a GPU through it."""
    return Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"))


def _writable(folder: str, mps: Path) -> tuple[Path, ...]:
    """Its own folder, devices, and what compilers of GPU programs keep between runs, if it is there."""
    home = Path.home()
    caches = (home / ".nv", home / ".triton", home / ".cache" / "torch", mps)
    return (Path(folder), Path("/dev"), Path("/proc/self"), *(cache for cache in caches if cache.exists()))
