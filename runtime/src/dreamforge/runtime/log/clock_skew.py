"""Measures how far this machine's clock is from the log's and corrects `clock.now`: one time for all machines."""

import asyncio
from datetime import datetime

from loguru import logger
from prometheus_client import Gauge

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.log.streams import PROBES
from dreamforge.runtime import clock
from dreamforge.runtime.log.bus import ApiError, Bus

SKEW = Gauge(
    "forge_clock_skew_seconds", "How far this machine's clock is ahead of the log's; times are corrected by it"
)
MEASURE_SECONDS = 15.0
# A smaller difference changes no decision, and clocks that are kept by NTP never get there.
TOLERATED_SECONDS = 0.5
# Half of the round trip is the error of a measurement; a slower one is made again.
ROUND_TRIP_SECONDS = 0.4
FIRST_TRIES = 5


async def measure(bus: Bus) -> float | None:
    """Seconds by which our clock is ahead of the server's; None when the answer took too long to tell.

    Errors: DependencyAway, ApiError.
    """
    began = clock.monotonic_seconds()
    info = await bus.request(f"$JS.API.STREAM.INFO.{PROBES.name}", None)
    took = clock.monotonic_seconds() - began
    if took > ROUND_TRIP_SECONDS:
        return None
    return (clock.machine_now() - datetime.fromisoformat(info["ts"])).total_seconds() - took / 2


def apply(skew: float) -> None:
    """Correct our clock by what was measured, and say so when that changes."""
    SKEW.set(skew)
    wanted = skew if abs(skew) >= TOLERATED_SECONDS else 0.0
    if wanted and abs(wanted - clock.skew_seconds()) < TOLERATED_SECONDS / 2:
        return  # a correction that moves with every measurement would make times jump
    if wanted:
        direction = "ahead of" if skew > 0 else "behind"
        logger.warning(
            "this machine's clock is {:.1f} s {} the log's: times are corrected by it; set it by NTP",
            abs(skew),
            direction,
        )
    elif clock.skew_seconds():
        logger.info("this machine's clock agrees with the log's again")
    clock.correct(wanted)


async def keep_measuring(bus: Bus) -> None:
    """Measure again and again until cancelled; while the log is away, the last correction stays."""
    while True:
        await asyncio.sleep(MEASURE_SECONDS)
        await _measure_once(bus)


async def measure_first(bus: Bus) -> None:
    """Before the first decision: a few tries, since a busy machine may answer slowly."""
    for _ in range(FIRST_TRIES):
        if await _measure_once(bus):
            return


async def _measure_once(bus: Bus) -> bool:
    try:
        skew = await measure(bus)
    except (DependencyAway, ApiError):
        return False
    if skew is not None:
        apply(skew)
    return skew is not None
