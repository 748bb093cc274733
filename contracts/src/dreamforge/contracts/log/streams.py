"""Streams and KV buckets as values. `runtime.log.streams` creates and updates them on the server."""

from dataclasses import dataclass

from dreamforge.contracts.fleet import LEASE_SECONDS
from dreamforge.contracts.log import subjects

DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One stream. Of `facts` each message is fsynced before its ack, and a full stream refuses; others drop the oldest.

    `erasable`: single messages can be removed, which overwrites them; the projector does that to erase a job.
    `schedules`: messages may state when they are to be published; without a bound on bytes none is dropped early.
    """

    name: str
    subjects: tuple[str, ...]
    title: str
    facts: bool = True
    erasable: bool = False
    schedules: bool = False
    max_age_seconds: float = 0
    max_bytes: int = -1

    @property
    def stream_name(self) -> str:
        """Its name on the server."""
        return self.name


JOBS = StreamSpec("JOBS", (subjects.JOBS_ALL,), "every event of every job, until it is erased", erasable=True)
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
    "runners that registered, stopped and were lost, 90 days",
    max_age_seconds=90 * DAY_SECONDS,
)
MODELS = StreamSpec("MODELS", (subjects.MODELS_ALL,), "registered models, forever")
QUEUES = StreamSpec("QUEUES", (subjects.QUEUES_ALL,), "queues that were held and released, forever")
KEYS = StreamSpec("KEYS", (subjects.KEYS_ALL,), "API keys that were created and revoked, forever")
TENANTS = StreamSpec("TENANTS", (subjects.TENANTS_ALL,), "quotas and weights of tenants, forever")
WEBHOOKS = StreamSpec("WEBHOOKS", (subjects.WEBHOOKS_ALL,), "webhooks of tenants and their sealed secrets, forever")
DELIVERIES = StreamSpec(
    "DELIVERIES",
    (subjects.DELIVERIES_ALL,),
    "what became of deliveries to webhooks, 30 days",
    max_age_seconds=30 * DAY_SECONDS,
)
AUDIT = StreamSpec(
    "AUDIT",
    (subjects.AUDIT_ALL,),
    "sign-ins, refused credentials and reads of admins, for FORGE_AUDIT_RETENTION_DAYS",
    max_age_seconds=365 * DAY_SECONDS,
)
PARKED = StreamSpec("PARKED", (subjects.PARKED_ALL,), "unreadable messages, with the reason, forever", erasable=True)
# The streams that services read through durable consumers; other applications' streams and advisories are not ours.
CONSUMED = ("JOBS", "PARKED", "ADVISORIES")
ADVISORIES = StreamSpec(
    "ADVISORIES",
    tuple(subject for stream in CONSUMED for subject in subjects.given_up(stream)),
    "messages that one of our consumers will not get again, 7 days: kept, so that none is dropped unnoticed",
    max_age_seconds=7 * DAY_SECONDS,
)
# Timers, not facts: when a retry is due is an event in JOBS. A day is longer than any wait between attempts.
TIMERS = StreamSpec(
    "TIMERS",
    (subjects.TIMERS_ALL,),
    "timers that are due later, and for a minute those that have fired",
    schedules=True,
    max_age_seconds=DAY_SECONDS,
)
# As durable as facts, because it is to show that facts can be stored.
PROBES = StreamSpec(
    "PROBES",
    (subjects.PROBES_ALL,),
    "what services write and read back to see that the log works, two minutes",
    max_age_seconds=120,  # the server keeps message ids as long, and refuses a stream that forgets sooner
)

STREAMS: tuple[StreamSpec, ...] = (
    JOBS,
    STEPS,
    FLEET,
    MODELS,
    QUEUES,
    KEYS,
    AUDIT,
    TENANTS,
    WEBHOOKS,
    DELIVERIES,
    PARKED,
    ADVISORIES,
    TIMERS,
    PROBES,
)


@dataclass(frozen=True, slots=True)
class BucketSpec:
    """A KV bucket whose keys are leases: each has its own time to live, and its end leaves a marker."""

    name: str
    title: str
    marker_seconds: int

    @property
    def stream_name(self) -> str:
        """The name of its stream on the server."""
        return f"KV_{self.name}"


RUNNERS_BUCKET = "runners"
LEADERS_BUCKET = "leaders"
# The key of the gateway that delivers to webhooks.
WEBHOOK_LEADER = "webhooks"
# A leader renews four times a second and is replaced a second after its last renewal; JetStream knows no shorter TTL.
LEADER_LEASE_SECONDS = 1
LEADER_RENEW_SECONDS = 0.25
RUNNERS = BucketSpec(RUNNERS_BUCKET, "heartbeats of the fleet, each with the lease as its time to live", LEASE_SECONDS)
LEADERS = BucketSpec(LEADERS_BUCKET, "the active process of each service that has only one", LEADER_LEASE_SECONDS)
BUCKETS: tuple[BucketSpec, ...] = (RUNNERS, LEADERS)


_STREAM_OF = {subject.split(".", 2)[1]: spec for spec in STREAMS for subject in spec.subjects if subject[0] != "$"}


def stream_of(subject: str) -> StreamSpec:
    """The stream that a subject of ours, or a filter within it, is stored in. Errors: KeyError.

    >>> stream_of("forge.jobs.J.>").name
    'JOBS'
    """
    return _STREAM_OF[subject.split(".", 2)[1]]


# Durable consumers of the projector: of ADVISORIES, and of PARKED.
PARKING, REREADING = "parking", "rereading"
RUNNER_CONSUMERS = "runner-"


def is_own_consumer(stream: str, consumer: str) -> bool:
    """Whether a durable consumer is one of ours; others read the log for themselves and give up what they like.

    >>> is_own_consumer("JOBS", "runner-gpu-1"), is_own_consumer("JOBS", "billing")
    (True, False)
    """
    if stream == JOBS.name:
        return consumer.startswith(RUNNER_CONSUMERS)
    return (stream, consumer) in ((ADVISORIES.name, PARKING), (PARKED.name, REREADING))


def runner_consumer(runner_id: str) -> str:
    """The durable consumer that carries one runner's assignments.

    >>> runner_consumer("gpu-1")
    'runner-gpu-1'
    """
    return f"{RUNNER_CONSUMERS}{runner_id}"
