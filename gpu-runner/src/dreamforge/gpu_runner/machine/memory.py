"""Memory of this machine, or of the container it is: what a CPU renderer has to live in."""

from dataclasses import dataclass
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one kind of memory."""

    total_bytes: int
    free_bytes: int


def system_memory() -> Memory:
    """Memory that we may use: the machine's, or the container's limit where that is less.

    "Free" counts what the kernel can take back from its caches, in bytes. psutil knows the machine, not the container.
    """
    found = psutil.virtual_memory()
    machine = Memory(int(found.total), int(found.available))
    container = _from_cgroup(_CGROUP)
    if container is None or container.total_bytes >= machine.total_bytes:
        return machine
    return Memory(container.total_bytes, min(container.free_bytes, machine.free_bytes))


def _from_cgroup(folder: Path) -> Memory | None:
    """Limit of a version 2 control group, None where there is none."""
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
    except (OSError, ValueError):
        return None
    if limit == "max":
        return None
    return Memory(int(limit), max(0, int(limit) - used))
