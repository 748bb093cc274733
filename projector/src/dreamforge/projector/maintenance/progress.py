"""How a rebuild or a verification reports how far it is."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dreamforge.runtime import clock

REPORT_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class MaintenanceProgress:
    """How far a rebuild or a verification is. Sequences are those of JOBS."""

    stage: str
    sequence: int = 0
    target: int = 0
    elapsed_seconds: float = 0.0


OnProgress = Callable[[MaintenanceProgress], None]


def ignore_progress(progress: MaintenanceProgress) -> None:
    """Reports nothing."""


@asynccontextmanager
async def reporting(
    stage: str, sequence: Callable[[], int], target: int, on_progress: OnProgress
) -> AsyncIterator[None]:
    """Report the current sequence at once, every REPORT_SECONDS while the block runs, and after it."""
    began = clock.monotonic_seconds()

    def report() -> None:
        on_progress(MaintenanceProgress(stage, sequence(), target, clock.monotonic_seconds() - began))

    async def report_periodically() -> None:
        while True:
            report()
            await asyncio.sleep(REPORT_SECONDS)

    reports = asyncio.create_task(report_periodically())
    try:
        yield
        report()
    finally:
        reports.cancel()
