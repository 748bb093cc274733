"""The processes that fold ranges of the log, as the one that waits for them sees them."""

import asyncio
import json
import sys
from contextlib import suppress
from dataclasses import dataclass, field

from dreamforge.contracts.errors import Unavailable
from dreamforge.projector.maintenance.log_range import LogRange
from dreamforge.projector.maintenance.range_worker import RangeTask
from dreamforge.runtime.log.message import LogMessage

# A line has one message: at most 8 MiB of a log that allows the most, 6 bytes for each that JSON escapes.
LINE_BYTES_MAX = 64 * 1024 * 1024


@dataclass(eq=False)
class RangeFailed(Unavailable):
    """A process that folds a range of the log has ended before its work was done."""

    code = "range_failed"
    range: LogRange
    reason: str

    def __str__(self) -> str:
        return f"the log from {self.range.first} to {self.range.last} could not be folded: {self.reason}"


@dataclass(slots=True)
class RangeProcess:
    """A range, how far it is folded, and what was left of it when it is done."""

    task: RangeTask
    folded_up_to: int
    left: list[LogMessage] = field(default_factory=list)
    done: bool = False

    async def run(self) -> None:
        """Run the process to its end; it ends with the task that waits here, too. Errors: RangeFailed."""
        module = "dreamforge.projector.maintenance.range_worker"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-Pm", module,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES_MAX,
        )  # fmt: skip
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{self.task.text()}\n".encode())
            async for line in process.stdout:
                self._hear(json.loads(line))
            if not self.done:
                raise RangeFailed(self.task.range, f"its process ended with status {await process.wait()}")
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())

    def _hear(self, said: dict[str, object]) -> None:
        match said:
            case {"folded_up_to": int(sequence)}:
                self.folded_up_to = sequence
            case {"left": [str(subject), dict(headers), str(data), int(sequence)]}:
                self.left.append(LogMessage(subject, headers, data.encode("latin-1"), sequence))
            case {"done": int(sequence)}:
                self.folded_up_to, self.done = sequence, True
            case {"failed": str(reason)}:
                raise RangeFailed(self.task.range, reason)
