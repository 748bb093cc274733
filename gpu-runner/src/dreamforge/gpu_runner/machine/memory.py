"""Memory of this machine, or of the container it is: what a CPU renderer lives in, and who leaves when it is full."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_OOM_SCORE = Path("/proc/self/oom_score_adj")
_VMSTAT = Path("/proc/vmstat")
#: What the kernel adds to a renderer's part of the memory, in thousandths of all of it (proc(5), oom_score_adj), when
#: it chooses the process to end: more than NATS or Postgres take, less than one that asks to be the first (1,000).
RENDERER_OOM_SCORE = 500


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


def leave_first_when_memory_is_full() -> None:
    """Have the kernel end this process, and what it starts, before those that hold queue and tables.

    To be called before the sandbox closes /proc. A process may always raise its own number.
    """
    with contextlib.suppress(OSError, ValueError):
        _OOM_SCORE.write_text(str(max(RENDERER_OOM_SCORE, int(_OOM_SCORE.read_text()))))


def kernel_kills() -> int:
    """How many processes the kernel has ended for want of memory since it started, in containers too; 0: unknown."""
    with contextlib.suppress(OSError, ValueError):
        for line in _VMSTAT.read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
