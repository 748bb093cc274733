"""The disk below the state folder: room, kind of file system, and what a durable write costs."""

import os
import shutil
import statistics
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from dreamforge.cli.doctor.findings import Finding, fault, note, ok, warning
from dreamforge.contracts.readable_sizes import readable_size
from dreamforge.runtime import clock

# nats-server refuses writes on a full disk until it is restarted; a first start takes about 150 MB.
LEAST_FREE_BYTES, LOW_FREE_BYTES = 2**30, 10 * 2**30
NOT_KEPT = frozenset({"tmpfs", "ramfs", "devtmpfs"})
# File locks and fsync of these depend on a server and on how they are mounted.
REMOTE = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "glusterfs"})
# A burst of appends shares fsyncs, one job alone waits for about five of them.
SLOW_FSYNC_SECONDS = 0.02
# No disk writes 4 KiB durably in less; memory, or a controller that only says it did, does.
IMPOSSIBLE_FSYNC_SECONDS = 0.00001
FSYNCS, FSYNC_BYTES = 24, 4096
MOUNTS = Path("/proc/mounts")


def check_disk(state_dir: Path) -> Iterator[Finding]:
    """What is found below the state folder, or the place where it would be made."""
    folder = existing(state_dir)
    usage = shutil.disk_usage(folder)
    yield judge_room(usage.free, folder)
    kind = filesystem_of(folder.resolve(), MOUNTS.read_text(encoding="utf-8") if MOUNTS.exists() else "")
    yield judge_filesystem(kind, folder)
    if os.access(folder, os.W_OK) and kind not in NOT_KEPT:
        yield judge_fsync(fsync_seconds(folder))


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    found = folder.absolute()
    while not found.is_dir():
        found = found.parent
    return found


def judge_room(free_bytes: int, folder: Path) -> Finding:
    """Whether there is room for events and images."""
    fact = f"{readable_size(free_bytes)} free in {folder}"
    remedy = "make room there, or name a folder on another disk in FORGE_STATE_DIR"
    if free_bytes < LEAST_FREE_BYTES:
        return fault("disk", fact, remedy)
    return warning("disk", fact, remedy) if free_bytes < LOW_FREE_BYTES else ok("disk", fact)


def judge_filesystem(kind: str, folder: Path) -> Finding:
    """Whether what is written there is kept."""
    if kind in NOT_KEPT:
        fact = f"{folder} is in memory ({kind}): a restart of the machine loses every job"
        return fault("disk", fact, "name a folder on a disk in FORGE_STATE_DIR")
    if kind in REMOTE:
        fact = f"{folder} is on a network file system ({kind}): locks and fsync depend on its server"
        return warning("disk", fact, "name a folder on a disk of this machine in FORGE_STATE_DIR")
    return ok("disk", f"file system {kind or 'unknown'}")


def judge_fsync(seconds: float) -> Finding:
    """Whether durable writes are durable, and fast enough."""
    fact = f"a durable write of 4 KiB takes {seconds * 1000:.2f} ms"
    if seconds < IMPOSSIBLE_FSYNC_SECONDS:
        remedy = "see whether the disk or the virtual machine ignores fsync: a power failure would lose accepted jobs"
        return warning("disk", f"{fact}, which no disk can do", remedy)
    if seconds > SLOW_FSYNC_SECONDS:
        remedy = "each job waits for about five such writes: put FORGE_STATE_DIR on a solid-state disk"
        return warning("disk", fact, remedy)
    return note("disk", fact)


def filesystem_of(path: Path, mounts: str) -> str:
    """The kind of file system that holds an absolute path, by the text of /proc/mounts; "" if it does not say.

    >>> filesystem_of(Path("/home/ann/.forge"), "dev / ext4 rw 0 0\\nserver:/h /home nfs4 rw 0 0")
    'nfs4'
    """
    found = [
        (Path(_unescaped(fields[1])), fields[2]) for line in mounts.splitlines() if len(fields := line.split()) > 2
    ]
    over = [(len(where.parts), place, kind) for place, (where, kind) in enumerate(found) if path.is_relative_to(where)]
    return max(over, default=(0, 0, ""))[2]


def _unescaped(text: str) -> str:
    r"""/proc/mounts writes blanks and backslashes in octal.

    >>> _unescaped("/mnt/my\\040disk")
    '/mnt/my disk'
    """
    return text.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")


def fsync_seconds(folder: Path) -> float:
    """Median seconds of an append of 4 KiB with fsync."""
    return statistics.median(_appends(folder))


def _appends(folder: Path) -> Iterable[float]:
    data = os.urandom(FSYNC_BYTES)
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(FSYNCS):
            began = clock.monotonic_seconds()
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            yield clock.monotonic_seconds() - began
