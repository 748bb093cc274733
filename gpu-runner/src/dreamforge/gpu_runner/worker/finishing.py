"""What comes after the render of an image, beside the render of the next: encoding, hashing, sending.

zlib, Pillow's encoders, hashlib and sockets release the GIL, and so does torch in its kernels.
"""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

#: Pixels that may wait to be encoded: 85 images of 1024 x 1024, or 5 of 4096 x 4096. Beyond it the render waits.
WAITING_BYTES = 256 * 2**20
Work = Callable[[], None]


class Finishing(Protocol):
    """Runs what it is given, in that order."""

    def add(self, work: Work, size_bytes: int = 0, /) -> None:
        """Run `work`, which holds so many bytes, after all that was added before. Errors: those of earlier work."""

    def flush(self) -> None:
        """Wait until everything has run. Errors: those of the work."""


class AtOnce:
    """In the calling thread: for a renderer that takes no time, with which nothing could overlap."""

    def add(self, work: Work, _size_bytes: int = 0, /) -> None:
        """Run it now."""
        work()

    def flush(self) -> None:
        """Nothing waits."""


class FinishingThread:
    """In one thread of its own. Several threads may add; each waits while more than `bound_bytes` wait."""

    def __init__(self, bound_bytes: int = WAITING_BYTES) -> None:
        self._bound_bytes = bound_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="finishing")
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Future[None], int]] = deque()

    def add(self, work: Work, size_bytes: int = 0, /) -> None:
        """Run it beside the caller. One that is larger than the bound waits until it is alone."""
        with self._lock:
            while self._waiting and (self._waiting[0][0].done() or self._held_bytes() + size_bytes > self._bound_bytes):
                self._waiting.popleft()[0].result()
            self._waiting.append((self._thread.submit(work), size_bytes))

    def flush(self) -> None:
        """Wait for all of it."""
        with self._lock:
            while self._waiting:
                self._waiting.popleft()[0].result()

    def _held_bytes(self) -> int:
        return sum(size_bytes for _, size_bytes in self._waiting)
