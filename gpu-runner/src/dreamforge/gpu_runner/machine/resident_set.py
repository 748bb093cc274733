"""How much memory this process held at most since a moment, as Linux counts it."""

import ctypes
import os
from functools import lru_cache
from pathlib import Path

STATUS, CLEAR_REFS = Path("/proc/self/status"), "/proc/self/clear_refs"
#: proc(5): writing it sets the peak of the resident set back to what is resident now.
RESET_PEAK = b"5"


class ResidentSet:
    """Of this process. What a sandbox keeps from being written later is opened at once."""

    def __init__(self) -> None:
        try:
            self._clear_refs: int | None = os.open(CLEAR_REFS, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            self._clear_refs = None

    def reset(self) -> int | None:
        """Set the peak back to what is held now, which are the bytes returned; None: this system cannot.

        Memory that the C library keeps though nothing uses it is given back first: a run would take it again, and
        seem to need nothing.
        """
        if self._clear_refs is None:
            return None
        _trim()
        try:
            os.write(self._clear_refs, RESET_PEAK)
            return _bytes_of("VmRSS")
        except (OSError, KeyError):
            return None

    def peak_bytes(self) -> int:
        """The most since `reset`. Errors: OSError, KeyError where the system does not count it."""
        return _bytes_of("VmHWM")


@lru_cache(maxsize=1)
def resident_set() -> ResidentSet:
    """The one of this process; to be called first before a sandbox is entered."""
    return ResidentSet()


def _bytes_of(name: str) -> int:
    lines = dict(line.partition(":")[::2] for line in STATUS.read_text().splitlines())
    return int(lines[name].split()[0]) * 1024  # "  123 kB"


def _trim() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl has not
    if trim is not None:
        trim(0)
