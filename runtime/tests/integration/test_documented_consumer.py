"""The consumer of docs/events.md, as it is, against a real log: it reads what there is, and goes on where it was."""

import asyncio
import os
import re
import sys
from pathlib import Path

from dreamforge.runtime.log.bus import Bus

EVENTS = Path(__file__).parents[3] / "docs" / "events.md"


async def lines_of(program: str, url: str, number: int) -> list[list[str]]:
    """The first lines that it prints; then it is killed."""
    environment = os.environ | {"FORGE_NATS_URL": url}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program), env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            return [(await process.stdout.readline()).decode().split() for _ in range(number)]
    finally:
        process.kill()
        await process.wait()


async def test_it_reads_every_success_and_goes_on_where_it_was(bus: Bus, nats_url: str) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", EVENTS.read_text(), re.DOTALL)
    for job_id, kind in (("a", "succeeded"), ("b", "failed"), ("c", "succeeded")):
        await bus.js.publish(f"forge.jobs.{job_id}.1.{kind}.gpu-1", b'{"at": "2026-11-27T12:00:00Z"}')
    found = await lines_of(program, nats_url, 2)
    assert [line[:2] for line in found] == [["1", "a"], ["3", "c"]]
    await bus.js.publish("forge.jobs.d.1.succeeded.gpu-1", b'{"at": "2026-11-27T12:00:00Z"}')
    (again,) = await lines_of(program, nats_url, 1)
    assert again[1] in ("c", "d")  # what was not acknowledged yet comes again: delivery is at least once
