"""Other processes: whether one is still the process it was, and which were left running in a folder of ours."""

import os
import sys
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
# The kernel's limit on the name of a program.
NAME_CHARACTERS = 15


def identity(pid: int) -> str | None:
    """A name of this process that a later one with the same pid does not have; None when it is dead.

    Pid and start time in clock ticks since boot (field 22 of /proc/PID/stat). A zombie counts as dead. Not by psutil
    on Linux: its public start time is derived from the wall clock, so setting the clock would change the name that
    was written to a file, and importing it takes 0.1 s of every command that only asks whether a stack runs.
    """
    if sys.platform != "linux":
        return _identity_by_psutil(pid)
    try:
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else f"{pid}-{fields[19]}"


def _identity_by_psutil(pid: int) -> str | None:
    import psutil  # 0.1 s

    with suppress(psutil.Error):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return f"{pid}-{process.create_time():.0f}"
    return None


def exists(pid: int) -> bool:
    """Whether a signal could be sent to this pid: to any process, a zombie included."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def kill_strays(folder: Path, program: str) -> list[int]:
    """Kill processes that run `program` with this working folder: left over when we and our guardian both died."""
    import psutil  # 0.1 s

    strays = []
    for process in psutil.process_iter(["name"]):
        with suppress(psutil.Error, OSError):
            runs_it = process.info["name"][:NAME_CHARACTERS] == program[:NAME_CHARACTERS]
            if runs_it and Path(process.cwd()) == folder.resolve():
                process.kill()
                strays.append(process.pid)
    return strays
