"""Reads files into the kernel's page cache before they are needed: what then maps or reads them waits for no disk.

The page cache is the one place in the host's memory that all runners of a machine, and all ways to read a file, share;
what is in it counts as free memory, and the kernel drops it when the room is needed.
"""

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

#: One is enough for the disk of docs/measurements/loading.md; faster ones need several requests at a time.
READERS = 4
CHUNK_BYTES = 8 * 2**20
#: Of the memory that is free, what is read ahead at most: the rest is for the model that renders.
SHARE = 0.8

Chunk = tuple[Path, int]


def chunks_of(files: Sequence[Path], limit_bytes: int) -> tuple[Chunk, ...]:
    """The parts to read, in order, until `limit_bytes` are reached; a file that is gone has none."""
    chunks: list[Chunk] = []
    for file in files:
        size_bytes = file.stat().st_size if file.is_file() else 0
        chunks += [(file, offset) for offset in range(0, size_bytes, CHUNK_BYTES)]
    return tuple(chunks[: max(0, limit_bytes // CHUNK_BYTES)])


def read_ahead(
    files: Sequence[Path], *, limit_bytes: int, stop: threading.Event | None = None, readers: int = READERS
) -> int:
    """Read files until the end, the limit or `stop`; how many bytes were read. What cannot be read is left out.

    What is in the cache already is not read again: beside a load on two cores, that cost as much as the load.
    """
    local, chunks = threading.local(), chunks_of(files, limit_bytes)

    def read(chunk: Chunk) -> int:
        if stop is not None and stop.is_set():
            return 0
        if not hasattr(local, "buffer"):
            local.buffer = bytearray(CHUNK_BYTES)
        return _read_into(local.buffer, *chunk)

    with ThreadPoolExecutor(readers, thread_name_prefix="read-ahead") as threads:
        return sum(threads.map(read, chunks))


def _read_into(buffer: bytearray, file: Path, offset: int) -> int:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return 0 if _is_cached(descriptor, offset) else os.preadv(descriptor, [buffer], offset)
    except OSError:
        return 0
    finally:
        os.close(descriptor)


def _is_cached(descriptor: int, offset: int) -> bool:
    """Whether a chunk is there, by its first and its last page. Linux alone says so; elsewhere it is read again."""
    no_wait: int | None = getattr(os, "RWF_NOWAIT", None)
    if no_wait is None:
        return False
    last = min(offset + CHUNK_BYTES, os.fstat(descriptor).st_size) - 1
    try:
        return all(os.preadv(descriptor, [bytearray(1)], place, no_wait) for place in (offset, last))
    except OSError:  # EAGAIN: it would have to wait for the disk; or a file system that does not know
        return False
