"""What the child process may not do: write but to its own folders, open a TCP connection, signal another process.

The child reads files that others made, with libraries of millions of lines; it needs no network, because inputs and
images go through the socket that it was started with. Landlock (Linux 5.13; TCP since 6.7, signals since 6.12) needs no
privilege and cannot be undone. Reading is not restricted: models may lie anywhere, also behind symbolic links.
"""

import ctypes
import os
import stat
import struct
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Sandbox = Literal["auto", "off", "required"]

# The same numbers on every architecture (asm-generic/unistd.h).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH, _PR_SET_NO_NEW_PRIVS = 1, 1, 38
# linux/landlock.h: everything that changes a file system. By ABI: 1, 2 (refer), 3 (truncate).
_WRITE_FILE = 1 << 1
_WRITES = _WRITE_FILE | sum(1 << bit for bit in range(4, 13))
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_TCP_BIND, _TCP_CONNECT = 1 << 0, 1 << 1
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1 << 0, 1 << 1
_ABI_REFER, _ABI_TRUNCATE, _ABI_TCP, _ABI_SCOPES = 2, 3, 4, 6


class SandboxMissing(OSError):
    """The kernel has no Landlock, and the setting requires it."""


@dataclass(frozen=True, slots=True)
class Restrictions:
    """What a Landlock ABI can restrict, as the fields of its ruleset."""

    files: int
    tcp: int
    scopes: int

    @classmethod
    def of(cls, abi: int) -> "Restrictions":
        """All that this ABI knows.

        >>> Restrictions.of(1).tcp, Restrictions.of(7).tcp, Restrictions.of(5).scopes
        (0, 3, 0)
        """
        files = _WRITES | (_REFER if abi >= _ABI_REFER else 0) | (_TRUNCATE if abi >= _ABI_TRUNCATE else 0)
        tcp = _TCP_BIND | _TCP_CONNECT if abi >= _ABI_TCP else 0
        return cls(files, tcp, _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if abi >= _ABI_SCOPES else 0)

    def attribute(self, abi: int) -> bytes:
        """struct landlock_ruleset_attr, as long as this ABI has it."""
        fields = [self.files, *([self.tcp] if abi >= _ABI_TCP else ()), *([self.scopes] if abi >= _ABI_SCOPES else ())]
        return struct.pack(f"={len(fields)}Q", *fields)


def enter(mode: Sandbox) -> str:
    """Restrict this process and all that it starts; a line that says what is restricted, or why nothing is.

    To be called before any thread is started. Errors: SandboxMissing.
    """
    if mode == "off":
        return "no sandbox: FORGE_RUNNER_SANDBOX is off"
    abi = _abi()
    if abi < 1:
        if mode == "required":
            raise SandboxMissing("this kernel has no Landlock, and FORGE_RUNNER_SANDBOX is required")
        return "no sandbox: this kernel has no Landlock"
    folder = _own_folder()
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    restrictions = Restrictions.of(abi)
    _restrict(abi, restrictions, _writable(folder))
    tcp = "no TCP" if restrictions.tcp else "TCP is not restricted by this kernel"
    return f"sandbox: files are written only below {folder} and caches of the GPU's compilers; {tcp}"


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


def _writable(folder: str) -> Iterable[Path]:
    """Its own folder, devices, and what compilers of GPU programs keep between runs, if it is there."""
    home = Path.home()
    mps = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"))
    caches = (home / ".nv", home / ".triton", home / ".cache" / "torch", mps)
    return (Path(folder), Path("/dev"), Path("/proc/self"), *(cache for cache in caches if cache.exists()))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _abi() -> int:
    """The Landlock ABI of the kernel; below 1 where there is none, also on other systems."""
    try:
        return int(_libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_VERSION_FLAG)))
    except (OSError, AttributeError):
        return -1


def _restrict(abi: int, restrictions: Restrictions, writable: Iterable[Path]) -> None:
    """Errors: OSError."""
    libc = _libc()
    attribute = restrictions.attribute(abi)
    ruleset = _checked(libc.syscall(_CREATE_RULESET, attribute, ctypes.c_size_t(len(attribute)), ctypes.c_uint(0)))
    for path in writable:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = restrictions.files if path.is_dir() else _WRITE_FILE
        rule = struct.pack("=Qi", allowed, opened)
        _checked(libc.syscall(_ADD_RULE, ruleset, ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint(0)))
        os.close(opened)
    _checked(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _checked(libc.syscall(_RESTRICT_SELF, ruleset, ctypes.c_uint(0)))
    os.close(ruleset)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
