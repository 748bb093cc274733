"""The progress of one job, as the stream STEPS still has it."""

import asyncio

from dreamforge.contracts.log.streams import STEPS
from dreamforge.contracts.log.subjects import steps_of
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.message import LogMessage


async def steps_after(bus: Bus, job_id: str, sequence: int) -> list[LogMessage]:
    """Every step past a sequence, of any runner, in stream order. Errors: DependencyAway."""
    found = await asyncio.gather(*(_pages(bus, subject, sequence) for subject in steps_of(job_id)))
    return sorted((message for messages in found for message in messages), key=lambda message: message.sequence)


async def _pages(bus: Bus, subject: str, sequence: int) -> list[LogMessage]:
    found: list[LogMessage] = []
    while True:
        page = await direct_get.after(bus, STEPS.name, subject, sequence)
        found += page
        if len(page) < direct_get.MAX_MESSAGES:
            return found
        sequence = page[-1].sequence
