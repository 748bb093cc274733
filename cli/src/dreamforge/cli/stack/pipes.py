"""The pipes of a child: its output goes, line by line, to its log file and a listener; its input is given once."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dreamforge.runtime.embedded.folder import open_log

Listener = Callable[[str], None]
# A longer log line is cut into pieces, which bounds memory.
LINE_LIMIT_BYTES = 256 * 1024


class OutputPipe:
    """A pipe for a child's stdout and stderr. Give `writer` to the child, then call `close_writer`."""

    def __init__(self, log_path: Path, listener: Listener) -> None:
        self._log_path = log_path
        self._listener = listener
        self._reader, self.writer = os.pipe()

    def close_writer(self) -> None:
        """Close the parent's copy of the writing end, so that the pipe ends with the child."""
        os.close(self.writer)

    async def copy(self) -> None:
        """Copy until the child and its own children have closed their end."""
        stream = asyncio.StreamReader(limit=LINE_LIMIT_BYTES)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(self._reader, "rb")
        )
        try:
            with open_log(self._log_path) as log:
                while line := await _next_line(stream):
                    log.write(line)
                    log.flush()
                    self._listener(line.decode(errors="replace").rstrip("\n"))
        finally:
            transport.close()


class InputPipe:
    """A pipe for a child's stdin. Give `reader` to the child, then call `close_reader`."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        self._is_open = True

    def close_reader(self) -> None:
        """Close the parent's copy of the reading end."""
        os.close(self.reader)

    def write_all(self, data: bytes) -> None:
        """Write all that the child is to read; without waiting for it, up to the 64 KiB of a pipe's buffer."""
        with suppress(BrokenPipeError):  # it ended before
            os.write(self._writer, data)
        self.close()

    def close(self) -> None:
        """The child reads end of file."""
        if self._is_open:
            self._is_open = False
            os.close(self._writer)


async def _next_line(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as end:
        return end.partial
    except asyncio.LimitOverrunError as overrun:
        return await stream.readexactly(max(1, overrun.consumed))
