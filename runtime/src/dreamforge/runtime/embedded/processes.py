"""What /proc says about other processes: who still lives, and who was left behind in a folder of ours."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def identity(pid: int) -> str | None:
    """A name for this life of a process, distinct from a later one with the same pid; None when it is dead.

    Pid and start time in clock ticks since boot (field 22 of /proc/PID/stat). A zombie counts as dead.
    """
    if sys.platform != "linux":
        return str(pid) if _answers(pid) else None
    try:
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else f"{pid}-{fields[19]}"


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def program_of(pid: int) -> str | None:
    """The first 15 letters of the program's name, which everybody may read; None when there is no such process."""
    try:
        return (PROC / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return None


def working_in(folder: Path) -> Iterator[int]:
    """Pids of the processes whose working folder is exactly this one, as far as we may look."""
    for entry in PROC.iterdir() if PROC.is_dir() else ():
        if entry.name.isdigit():
            with suppress(OSError):
                if Path(os.readlink(entry / "cwd")) == folder:
                    yield int(entry.name)


def kill_strays(folder: Path, program: str) -> list[int]:
    """Kill processes running `program` with this working folder: left when we and our guardian both died."""
    strays = []
    for pid in working_in(folder.resolve()):
        with suppress(OSError):
            if program_of(pid) == program[:15]:
                os.kill(pid, signal.SIGKILL)
                strays.append(pid)
    return strays
