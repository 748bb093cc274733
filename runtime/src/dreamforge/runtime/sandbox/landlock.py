"""What of the files a process may still write, and read; no TCP, no signals to others. It cannot be undone.

Landlock (Linux 5.13; TCP since 6.7, signals since 6.12) needs no privilege. It also keeps a process from reading the
memory of those outside its domain.
"""

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dreamforge.runtime.sandbox.kernel import PR_SET_NO_NEW_PRIVS, call, prctl

# The same numbers on every architecture (asm-generic/unistd.h).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
# linux/landlock.h: everything that changes a file system. By ABI: 1, 2 (refer), 3 (truncate).
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_FOLDER = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_WRITES = _WRITE_FILE | sum(1 << bit for bit in range(4, 13))
_READS = _READ_FILE | _READ_FOLDER
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_OF_A_FILE = _WRITE_FILE | _READ_FILE | _TRUNCATE
_TCP_BIND, _TCP_CONNECT = 1 << 0, 1 << 1
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1 << 0, 1 << 1
_ABI_REFER, _ABI_TRUNCATE, ABI_OF_TCP, _ABI_SCOPES = 2, 3, 4, 6


@dataclass(frozen=True, slots=True)
class Restrictions:
    """What a Landlock ABI can restrict, as the fields of its ruleset."""

    files: int
    tcp: int
    scopes: int

    @classmethod
    def of(cls, abi: int) -> "Restrictions":
        """All that this ABI knows, but for reading and executing.

        >>> Restrictions.of(1).tcp, Restrictions.of(7).tcp, Restrictions.of(5).scopes
        (0, 3, 0)
        """
        files = _WRITES | (_REFER if abi >= _ABI_REFER else 0) | (_TRUNCATE if abi >= _ABI_TRUNCATE else 0)
        tcp = _TCP_BIND | _TCP_CONNECT if abi >= ABI_OF_TCP else 0
        return cls(files, tcp, _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if abi >= _ABI_SCOPES else 0)

    def attribute(self, abi: int, more: int) -> bytes:
        """struct landlock_ruleset_attr, as long as this ABI has it; `more` are further restrictions of files."""
        tcp, scopes = (self.tcp,) if abi >= ABI_OF_TCP else (), (self.scopes,) if abi >= _ABI_SCOPES else ()
        fields = (self.files | more, *tcp, *scopes)
        return struct.pack(f"={len(fields)}Q", *fields)


def landlock_abi() -> int:
    """What the kernel has of it; 0: nothing, as on other systems."""
    try:
        return call("syscall", _CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def restrict_files(writable: Iterable[Path], readable: Iterable[Path] | None) -> None:
    """Write only below `writable`, read only below `readable` and execute nothing; None: read and execute everything.

    Before any thread is started, and with an ABI of at least 1. Errors: OSError.
    """
    abi = landlock_abi()
    restrictions = Restrictions.of(abi)
    attribute = restrictions.attribute(abi, 0 if readable is None else _READS | _EXECUTE)
    ruleset = call("syscall", _CREATE_RULESET, attribute, len(attribute), 0)
    for path in writable:
        _allow(ruleset, path, restrictions.files)
    for path in readable or ():
        _allow(ruleset, path, _READS)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    call("syscall", _RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: Path, what: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        rule = struct.pack("=Qi", what if path.is_dir() else what & _OF_A_FILE, opened)
        call("syscall", _ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    finally:
        os.close(opened)
