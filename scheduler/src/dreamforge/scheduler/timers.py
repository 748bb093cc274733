"""Wake-ups that survive us: JetStream publishes them when they are due, whoever is alive then.

They only wake; what is due is said by the fold (`retry_at`). Arming a job again replaces its wake-up.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.log.streams import TIMERS
from dreamforge.contracts.log.subjects import TIMERS_DUE, timer_due, timer_schedule
from dreamforge.runtime.log.bus import ApiError, Bus, ack
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.service import retry

# A fired wake-up is of no use later: whoever was away then looks at the fold anyway.
FIRED_TTL = "60s"


def schedule_headers(job_id: str, at: datetime) -> dict[str, str]:
    """What makes a message a schedule. `at` is aware.

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
    """Have a wake-up for a job stored; returns once it is durable, however long NATS is away."""

    async def publish() -> None:
        ack(await bus.ask(timer_schedule(job_id), b"", schedule_headers(job_id, at)))

    await retry.until_it_works("timers", publish, DependencyAway, ApiError)


async def follow(bus: Bus, on_due: Callable[[str], None]) -> None:
    """Call `on_due(job_id)` for each wake-up that fires from now on, until cancelled."""
    async for batch in Follower(bus, TIMERS.name, (TIMERS_DUE,), new_only=True).batches():
        for message in batch.messages:
            on_due(message.subject.rsplit(".", 1)[-1])
