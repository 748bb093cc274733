"""This machine: memory, open files, the sandbox of the kernel, and whether its clock is kept."""

import ctypes
import resource
from collections.abc import Iterator
from pathlib import Path

from dreamforge.cli.doctor.findings import Finding, note, ok, warning
from dreamforge.contracts.readable_sizes import readable_size
from dreamforge.runtime.sandbox.landlock import ABI_OF_TCP, landlock_abi

MEMINFO = Path("/proc/meminfo")
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
# Servers and services of an idle stack take about 0.9 GiB, a child with torch 0.5 GiB, a small model 2 GiB.
LEAST_MEMORY_BYTES = 4 * 2**30
# A gateway holds one file for each client that watches, nats-server one for each block of a stream.
LEAST_OPEN_FILES = 4096
STA_UNSYNC, STRUCT_TIMEX_BYTES, STATUS_OFFSET_BYTES = 0x40, 208, 40


def check_machine() -> Iterator[Finding]:
    """What the kernel says of this machine."""
    if MEMINFO.exists():
        yield judge_memory(usable_memory_bytes())
    yield judge_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    yield judge_sandbox(landlock_abi())
    yield judge_clock(is_clock_synchronised())


def usable_memory_bytes() -> int:
    """Memory of the machine, or of the container where that is less."""
    line = next(line for line in MEMINFO.read_text(encoding="ascii").splitlines() if line.startswith("MemTotal:"))
    machine_bytes = int(line.split()[1]) * 1024
    limit = CGROUP_LIMIT.read_text(encoding="ascii").strip() if CGROUP_LIMIT.exists() else "max"
    return min(machine_bytes, int(limit)) if limit.isdecimal() else machine_bytes


def judge_memory(total_bytes: int) -> Finding:
    """Whether a stack and a small model fit."""
    fact = f"{readable_size(total_bytes)} of memory"
    if total_bytes < LEAST_MEMORY_BYTES:
        return warning("machine", fact, f"a stack with a small model takes about {readable_size(LEAST_MEMORY_BYTES)}")
    return ok("machine", fact)


def judge_open_files(limit: int) -> Finding:
    """Whether many clients can watch at once."""
    if limit == resource.RLIM_INFINITY or limit >= LEAST_OPEN_FILES:
        return ok("machine", f"up to {'any number of' if limit == resource.RLIM_INFINITY else limit} open files")
    fact = f"a process may open {limit} files, and each client that watches takes one"
    return warning("machine", fact, f"raise it to {LEAST_OPEN_FILES} or more: `ulimit -n`, or LimitNOFILE of the unit")


def judge_sandbox(abi: int) -> Finding:
    """Whether the processes that read files of strangers can be confined."""
    if abi == 0:
        fact = "the kernel has no Landlock: what reads models and pictures of strangers is confined less"
        return warning("machine", fact, "use Linux 5.13 or newer with `landlock` among the values of `lsm=`")
    if abi < ABI_OF_TCP:
        return note("machine", f"Landlock of version {abi}: files are confined, TCP by seccomp alone")
    return ok("machine", f"Landlock of version {abi}")


def judge_clock(synchronised: bool | None) -> Finding:
    """Whether the times of events can be compared with those of other machines."""
    if synchronised is None:
        return note("clock", "this system does not say whether the clock is kept by NTP")
    if synchronised:
        return ok("clock", "kept by NTP")
    return note(
        "clock",
        "not kept by NTP, as far as the kernel knows",
        "with runners on several machines: enable it (`timedatectl set-ntp true`)",
    )


def is_clock_synchronised() -> bool | None:
    """Whether the kernel's clock is disciplined (adjtimex of Linux); None where that is not known."""
    try:
        adjtimex = ctypes.CDLL(None, use_errno=True).adjtimex
    except (AttributeError, OSError):
        return None
    timex = ctypes.create_string_buffer(STRUCT_TIMEX_BYTES)  # modes 0: reads only
    if adjtimex(timex) < 0:
        return None
    status = int.from_bytes(timex.raw[STATUS_OFFSET_BYTES : STATUS_OFFSET_BYTES + 4], "little")
    return not status & STA_UNSYNC
