"""Memory of this machine, without psutil: what a CPU renderer has to live in."""

from dataclasses import dataclass
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one kind of memory."""

    total_bytes: int
    free_bytes: int


def system_memory() -> Memory:
    """Memory that we may use: the machine's, or the container's limit where that is less.

    "Free" counts what the kernel can take back from its caches (MemAvailable), in bytes.
    Errors: OSError where neither /proc/meminfo nor sysconf exists.
    """
    machine = _from_meminfo(_MEMINFO.read_text()) if _MEMINFO.exists() else _from_sysconf()
    container = _from_cgroup(_CGROUP)
    if container is None or container.total_bytes >= machine.total_bytes:
        return machine
    return Memory(container.total_bytes, min(container.free_bytes, machine.free_bytes))


def _from_meminfo(text: str) -> Memory:
    kibibytes = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        kibibytes[name] = int(rest.split()[0])
    available = kibibytes.get("MemAvailable", kibibytes["MemFree"])
    return Memory(kibibytes["MemTotal"] * 1024, available * 1024)


def _from_sysconf() -> Memory:
    import os  # only here: no machine that we support lacks /proc/meminfo except macOS

    page_bytes = os.sysconf("SC_PAGE_SIZE")
    total_bytes = page_bytes * os.sysconf("SC_PHYS_PAGES")
    # macOS has no count of free pages here; half is a guess that `plan` can live with on a laptop.
    return Memory(total_bytes, total_bytes // 2)


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
