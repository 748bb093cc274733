"""Functions of the C library that Python does not have. Linux only: elsewhere each of them is an OSError."""

import ctypes
import errno
import os
import sys
from functools import cache

# linux/prctl.h
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 4, 22, 38


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def call(function: str, *arguments: object) -> int:
    """What the function returns; a plain int is passed as an unsigned long.

    Errors: OSError with the number that the kernel gave, ENOSYS on another system.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "this system is not Linux")
    given = (ctypes.c_ulong(each) if isinstance(each, int) else each for each in arguments)
    result = int(getattr(_library(), function)(*given))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def prctl(option: int, *arguments: object) -> None:
    """prctl(2), its four arguments filled up with zeros. Errors: as `call`."""
    call("prctl", option, *(*arguments, 0, 0, 0, 0)[:4])
