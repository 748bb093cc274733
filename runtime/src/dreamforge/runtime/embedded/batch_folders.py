"""Spreads the folders in which nats-server stages atomic batches over the disk, where its file system is ext4.

A batch of a stream without replicas is staged in a folder of its own: some eight files and folders are made for it, and
removed when it is stored. Without a journal ext4 leaves an inode free for a minute and more after that, and to make a
file it looks at every such inode of the group before it takes another one: that was half of nats-server's processor
time (docs/measurements/accepting.md). Subfolders of a folder with the attribute T (chattr) get groups of their own.
"""

import contextlib
import fcntl
import os
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

# linux/fs.h. The numbers are those of 64-bit machines and name a `long`; what is read and written is an `int`.
_GET_FLAGS, _SET_FLAGS, _TOP_OF_TREE = 0x80086601, 0x40086602, 0x00020000
_INT = struct.Struct("i")
# Of nats-server's store; its log and its tests name it.
BATCHES = "batches"


def spread_batches(store: Path, streams: Iterable[str]) -> None:
    """Mark the folder of each of these streams, which nats-server makes anew after every start.

    A hint: on other systems, and where a stream has no folder at the place that is known, nothing is done.
    """
    for stream in streams:
        for folder in store.glob(f"jetstream/*/streams/{stream}"):
            batches = folder / BATCHES
            with contextlib.suppress(OSError):
                batches.mkdir(mode=0o700, exist_ok=True)
                spread(batches)


def spread(folder: Path) -> None:
    """Give a folder the attribute. Errors: OSError where the file system has no such attribute."""
    if sys.platform == "linux":
        with _flags_of(folder) as (opened, flags):
            fcntl.ioctl(opened, _SET_FLAGS, _INT.pack(flags | _TOP_OF_TREE))


def is_spread(folder: Path) -> bool:
    """Whether a folder has the attribute. Errors: OSError where the file system has none."""
    with _flags_of(folder) as (_, flags):
        return bool(flags & _TOP_OF_TREE)


@contextlib.contextmanager
def _flags_of(folder: Path) -> Iterator[tuple[int, int]]:
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield opened, _INT.unpack(fcntl.ioctl(opened, _GET_FLAGS, bytes(_INT.size)))[0]
    finally:
        os.close(opened)
