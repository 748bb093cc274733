"""Copies the output of a child process, line by line, to its log file and to a listener."""

import asyncio
import os
from collections.abc import Callable
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


async def _next_line(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as end:
        return end.partial
    except asyncio.LimitOverrunError as overrun:
        return await stream.readexactly(max(1, overrun.consumed))
