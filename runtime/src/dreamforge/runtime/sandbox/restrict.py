"""One call for a process that reads files of strangers: fewer privileges, its own files only, no network."""

import sys
from dataclasses import dataclass
from pathlib import Path

from dreamforge.runtime.sandbox import seccomp
from dreamforge.runtime.sandbox.landlock import ABI_OF_TCP, landlock_abi, restrict_files
from dreamforge.runtime.sandbox.privileges import drop_privileges
from dreamforge.runtime.sandbox.seccomp import NO_SOCKETS, Sockets, restrict_network


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a restricted process may still do; nothing, if nothing is said. `readable`: None is everything."""

    writable: tuple[Path, ...] = ()
    readable: tuple[Path, ...] | None = ()
    sockets: Sockets = NO_SOCKETS
    capabilities: int = 0


def restrict_process(allowed: Allowed) -> None:
    """Restrict this process, and all that it starts, by what the kernel has of it; `missing` says what it has not.

    Before any thread is started. It cannot be undone. Errors: OSError.
    """
    if sys.platform != "linux":
        return
    drop_privileges(allowed.capabilities)
    if landlock_abi():
        restrict_files(allowed.writable, allowed.readable)
    if not seccomp.missing():
        restrict_network(allowed.sockets)


def missing() -> tuple[str, ...]:
    """What cannot be restricted on this system, and why."""
    abi = landlock_abi()
    lines = [] if abi else ["files are not restricted: this kernel has no Landlock"]
    if reason := seccomp.missing():
        tcp = "only TCP is refused" if abi >= ABI_OF_TCP else "the network is not restricted"
        lines.append(f"{tcp}: {reason}")
    return tuple(lines)


def of_the_interpreter() -> tuple[Path, ...]:
    """What Python reads to go on: its modules, wherever they are, and the libraries of the system."""
    paths = (sys.prefix, sys.base_prefix, *sys.path)
    system = (Path("/usr"), Path("/lib"), Path("/lib64"), Path("/dev/null"), Path("/dev/urandom"))
    return tuple(dict.fromkeys((*system, *(Path(each) for each in paths if each))))
