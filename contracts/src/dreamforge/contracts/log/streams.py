"""Streams and the heartbeat bucket as values. `runtime.streams` makes the server agree with them."""

from dataclasses import dataclass

from dreamforge.contracts.fleet import LEASE_SECONDS
from dreamforge.contracts.log import subjects

DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One stream. `facts` are fsynced before their ack and refuse when full; others may drop their oldest.

    `schedules`: messages may say when they want to be published; without a bound on bytes none is dropped early.
    """

    name: str
    subjects: tuple[str, ...]
    title: str
    facts: bool = True
    schedules: bool = False
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
QUEUES = StreamSpec("QUEUES", (subjects.QUEUES_ALL,), "queues that were held and released, for ever")
PARKED = StreamSpec("PARKED", (subjects.PARKED_ALL,), "messages nobody could read, with the reason, for ever")
ADVISORIES = StreamSpec(
    "ADVISORIES",
    subjects.GIVEN_UP,
    "messages that some consumer will not get again, 7 days: kept, so that none is dropped unseen",
    max_age_seconds=7 * DAY_SECONDS,
)
# Wake-ups, not facts: when a retry is due is said by JOBS. A day is longer than any wait between attempts.
TIMERS = StreamSpec(
    "TIMERS",
    (subjects.TIMERS_ALL,),
    "wake-ups that are due later, and for a minute those that were",
    schedules=True,
    max_age_seconds=DAY_SECONDS,
)

STREAMS: tuple[StreamSpec, ...] = (JOBS, STEPS, FLEET, MODELS, QUEUES, PARKED, ADVISORIES, TIMERS)


@dataclass(frozen=True, slots=True)
class BucketSpec:
    """A KV bucket in memory whose keys are leases: each has its own time to live, and its end is seen as a marker."""

    name: str
    title: str
    marker_seconds: int


RUNNERS_BUCKET = "runners"
LEADERS_BUCKET = "leaders"
# A leader renews four times a second and is replaced a second after its last renewal; JetStream knows no shorter TTL.
LEADER_LEASE_SECONDS = 1
LEADER_RENEW_SECONDS = 0.25
BUCKETS: tuple[BucketSpec, ...] = (
    BucketSpec(RUNNERS_BUCKET, "heartbeats of the fleet, each with the lease as its time to live", LEASE_SECONDS),
    BucketSpec(LEADERS_BUCKET, "who is active, of services that have one active process", LEADER_LEASE_SECONDS),
)


def runner_consumer(runner_id: str) -> str:
    """The durable consumer that carries one runner's assignments.

    >>> runner_consumer("gpu-1")
    'runner-gpu-1'
    """
    return f"runner-{runner_id}"
