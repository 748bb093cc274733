"""`dreamforge down`: stops the stack of this folder."""

import asyncio
import os
import signal
from contextlib import suppress

from dreamforge.cli.console import err, out, run
from dreamforge.cli.failure import CommandError
from dreamforge.cli.settings import from_environment
from dreamforge.cli.stack_record import StackRecord, read_record

# An orderly stop takes about 2 s, plus the drain time of a runner: 5 s, or 60 s of `dreamforge service`.
DOWN_SECONDS = 180.0
POLL_SECONDS = 0.1  # the end of a process that is no child cannot be awaited on every system


def down() -> None:
    """Stop the stack of this folder in order, and wait for its end.

    Exit code 0 also when none runs.
    """
    record = read_record(from_environment().state_dir)
    if record is None:
        err.print("no stack runs in this folder")
        return
    run(_stop(record))
    out.print(f"stopped process {record.pid}; the data remains in {record.folder}")


async def _stop(record: StackRecord) -> None:
    with suppress(ProcessLookupError):
        os.kill(record.pid, signal.SIGTERM)
    try:
        async with asyncio.timeout(DOWN_SECONDS):
            while record.is_running:  # noqa: ASYNC110 - not a child of this process
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        hint = f"kill -9 {record.pid} ends it at once, with all its children"
        raise CommandError(f"process {record.pid} did not end in {DOWN_SECONDS:g} s", hint=hint) from None
