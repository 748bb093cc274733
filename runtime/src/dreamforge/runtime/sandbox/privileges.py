"""Privileges that a process gives up, and its memory and environment, which no other of its user may read."""

import ctypes
from contextlib import suppress

from dreamforge.runtime.sandbox.kernel import PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, call, prctl

# linux/capability.h
_VERSION_3 = 0x20080522
#: Read files of other users, where we are root.
CAP_DAC_READ_SEARCH = 1 << 2


def refuse_inspection() -> None:
    """Let no other process of this user read our memory or, below /proc, our environment, nor attach a debugger.

    No core file is written either. Only the privileges of root still allow it. An `exec` undoes it, so each process
    does it for itself, first of all. Without effect on other systems than Linux.
    """
    with suppress(OSError):
        prctl(PR_SET_DUMPABLE, 0)


def drop_privileges(keep: int = 0) -> None:
    """Gain none by any program from now on, and have none of root's but those in `keep`.

    Before any thread is started. With CAP_PERFMON a process reads the environment of all others, whatever Landlock
    says (tried on Linux 6.18). Errors: OSError.
    """
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    # Effective, permitted, inheritable: first the low 32 bits of the three, then the high ones.
    header, held = (ctypes.c_uint32 * 2)(_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    call("capget", header, held)
    kept = held[1] & keep
    call("capset", header, (ctypes.c_uint32 * 6)(kept, kept, 0, 0, 0, 0))
