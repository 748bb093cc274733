"""Streams and the heartbeat bucket as values. `runtime.streams` makes the server agree with them."""

from dataclasses import dataclass

from dreamforge.contracts import subjects
from dreamforge.contracts.fleet import LEASE_SECONDS

DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One stream. `facts` are fsynced before their ack and refuse when full; others may drop their oldest."""

    name: str
    subjects: tuple[str, ...]
    title: str
    facts: bool = True
    max_age_seconds: float = 0
    max_bytes: int = -1


JOBS = StreamSpec("JOBS", (subjects.JOBS_ALL,), "every fact about every job, for ever")
STEPS = StreamSpec(
    "STEPS",
    (subjects.STEPS_ALL,),
    "progress of running attempts, one day",
    facts=False,
    max_age_seconds=DAY_SECONDS,
    max_bytes=2 * 2**30,
)
FLEET = StreamSpec(
    "FLEET",
    (subjects.RUNNERS_ALL,),
    "runners that came, left and were lost, 90 days",
    max_age_seconds=90 * DAY_SECONDS,
)
MODELS = StreamSpec("MODELS", (subjects.MODELS_ALL,), "models that can be asked for, for ever")
PARKED = StreamSpec("PARKED", (subjects.PARKED_ALL,), "messages nobody could read, with the reason, for ever")
ADVISORIES = StreamSpec(
    "ADVISORIES",
    subjects.GIVEN_UP,
    "messages that some consumer will not get again, 7 days: kept, so that none is dropped unseen",
    max_age_seconds=7 * DAY_SECONDS,
)

STREAMS: tuple[StreamSpec, ...] = (JOBS, STEPS, FLEET, MODELS, PARKED, ADVISORIES)

RUNNERS_BUCKET = "runners"
RUNNERS_BUCKET_TTL_SECONDS = LEASE_SECONDS


def runner_consumer(runner_id: str) -> str:
    """The durable consumer that carries one runner's assignments.

    >>> runner_consumer("gpu-1")
    'runner-gpu-1'
    """
    return f"runner-{runner_id}"
