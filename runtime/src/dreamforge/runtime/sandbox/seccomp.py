"""No network for a process and all that it starts: a filter of its system calls, which cannot be undone.

Landlock restricts TCP alone, and files at most; this refuses sockets of every family, UDP, netlink and those of virtual
machines included. A filter sees numbers only, so that it cannot tell one AF_UNIX address from another: where such
sockets are allowed, `connect` is refused, as if no server listened. Pairs of sockets stay: they lead nowhere.
"""

import ctypes
import errno
import platform
import socket
import struct
from dataclasses import dataclass

from dreamforge.runtime.sandbox.kernel import PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, call, prctl

Instruction = tuple[int, int, int, int]
"""struct sock_filter: code, jump if true, jump if false, value."""

# linux/bpf_common.h: load a word, jump if equal, jump if greater or equal, return.
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
# Offsets in struct seccomp_data (linux/seccomp.h); of an argument the low half, which is all that an int has.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _ERROR, _MODE_FILTER = 0x7FFF0000, 0x00050000, 2
_SECCOMP_GET_ACTION_AVAIL = 2
# Calls of x86-64 with 32-bit pointers (x32) have this bit, and other numbers.
_X32 = 0x40000000
# The same on every architecture. It opens sockets without the call that is filtered (Linux 5.19).
_IO_URING_SETUP = 425


@dataclass(frozen=True, slots=True)
class Architecture:
    """Its name for the kernel (linux/audit.h) and numbers of its calls (asm/unistd.h)."""

    audit: int
    seccomp: int
    socket: int
    socketpair: int
    connect: int


ARCHITECTURES = {
    "x86_64": Architecture(0xC000003E, seccomp=317, socket=41, socketpair=53, connect=42),
    "aarch64": Architecture(0xC00000B7, seccomp=277, socket=198, socketpair=199, connect=203),
}


@dataclass(frozen=True, slots=True)
class Sockets:
    """What stays allowed: `unix`, sockets of this machine; `connect`, to connect them to those of other processes."""

    unix: bool = False
    connect: bool = False


NO_SOCKETS = Sockets()


def missing() -> str:
    """Why no filter can be set here; "" where it can."""
    if (here := _architecture()) is None:
        return f"no filter of system calls is known for {platform.machine()} here"
    try:
        call("syscall", here.seccomp, _SECCOMP_GET_ACTION_AVAIL, 0, struct.pack("=I", _ERROR))
    except OSError as error:
        return f"this kernel has no seccomp filters ({error.strerror})"
    return ""


def restrict_network(allowed: Sockets) -> None:
    """Refuse sockets with EPERM from now on. Before any thread is started. Errors: OSError."""
    here = _architecture()
    assert here is not None, "to be asked before: missing()"
    code = b"".join(struct.pack("=HBBI", *each) for each in program(here, allowed))
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: a length, padded to the pointer behind it.
    filter_program = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    prctl(PR_SET_SECCOMP, _MODE_FILTER, filter_program)


def program(here: Architecture, allowed: Sockets) -> tuple[Instruction, ...]:
    """The filter, in BPF. Calls of another architecture, whose numbers mean others, are refused all."""
    return (
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, here.audit),
        _refuse(errno.EPERM),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        _refuse(errno.ENOSYS),
        (_EQUAL, 0, 1, _IO_URING_SETUP),
        _refuse(errno.ENOSYS),
        *(() if allowed.connect else ((_EQUAL, 0, 1, here.connect), _refuse(errno.ECONNREFUSED))),
        *(() if allowed.unix else ((_EQUAL, 0, 1, here.socket), _refuse(errno.EPERM))),
        (_EQUAL, 1, 0, here.socket),
        (_EQUAL, 0, 3, here.socketpair),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_EQUAL, 1, 0, int(socket.AF_UNIX)),
        _refuse(errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
    )


def _refuse(error: int) -> Instruction:
    return (_RETURN, 0, 0, _ERROR | error)


def _architecture() -> Architecture | None:
    """Ours, where it is known: an interpreter of 32 bits has other numbers on the same machine."""
    return ARCHITECTURES.get(platform.machine()) if struct.calcsize("P") == 8 else None
