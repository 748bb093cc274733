"""Timers that survive the scheduler: JetStream publishes a message when one is due, whichever scheduler runs then.

A timer only wakes the planner; which retry is due is in the fold (`retry_at`). Setting a job's timer again replaces
it.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.log.streams import TIMERS
from dreamforge.contracts.log.subjects import TIMERS_DUE, timer_due, timer_schedule
from dreamforge.runtime.log.bus import ApiError, Bus, ack, refusal
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.service import retry

# A fired timer is of no use later: a scheduler that was not running reads the fold at its start anyway.
FIRED_TTL = "60s"


def schedule_headers(job_id: str, at: datetime) -> dict[str, str]:
    """The headers that make a message a schedule. `at` is timezone-aware.

    >>> schedule_headers("J", datetime(2026, 1, 2, 3, 4, 5, 600000, UTC))["Nats-Schedule"]
    '@at 2026-01-02T03:04:05.600000Z'
    """
    stamp = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "Nats-Schedule": f"@at {stamp}",
        "Nats-Schedule-Target": timer_due(job_id),
        "Nats-Schedule-TTL": FIRED_TTL,
    }


async def arm(bus: Bus, job_id: str, at: datetime) -> None:
    """Store a timer for a job; returns once it is durable, and retries while NATS is unavailable.

    Errors: BrokerUnfit when the server refuses it.
    """

    async def publish() -> None:
        try:
            ack(await bus.ask(timer_schedule(job_id), b"", schedule_headers(job_id, at)))
        except ApiError as error:
            raise refusal(error, "a timer") from error

    await retry.until_it_works("timers", publish, DependencyAway)


async def follow(bus: Bus, on_due: Callable[[str], None]) -> None:
    """Call `on_due(job_id)` for each timer that fires from now on, until cancelled."""
    async for batch in Follower(bus, TIMERS.name, (TIMERS_DUE,), new_only=True).batches():
        for message in batch.messages:
            on_due(message.subject.rsplit(".", 1)[-1])
