"""Reads what a child says, line by line: into its log file, and to whoever listens."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from dreamforge.runtime.embedded.folder import open_log

Listener = Callable[[str], None]
# A log line past this is cut into pieces rather than held in memory.
LINE_LIMIT_BYTES = 256 * 1024


class OutputPipe:
    """A pipe for a child's stdout and stderr. Give `writer` to the child, then call `child_has_it`."""

    def __init__(self, log_path: Path, listener: Listener) -> None:
        self._log_path = log_path
        self._listener = listener
        self._reader, self.writer = os.pipe()

    def child_has_it(self) -> None:
        """Close our copy of the writing end, so that the pipe ends with the child."""
        os.close(self.writer)

    async def pump(self) -> None:
        """Until the child and all that it started have closed their end."""
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
