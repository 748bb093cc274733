"""What each user of the bus may publish and subscribe to: exactly what its service needs. Pure.

nats-server enforces it; `contracts.log.permissions_text` writes it as configuration and as the table for people. What
subjects cannot say (an event's runner against its assignment), the folds check.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dreamforge.contracts import events, installation_events, webhook_events
from dreamforge.contracts.log import streams, subjects
from dreamforge.contracts.log.streams import CONSUMED, BucketSpec, StreamSpec

GATEWAY, SCHEDULER, PROJECTOR, ADMIN = "gateway", "scheduler", "projector", "admin"
SERVICES = (GATEWAY, SCHEDULER, PROJECTOR)
RUNNER_USERS = "runner-"

# Consumers of one user on a stream whose consumers have names: so many of its processes can follow it at once, and
# those of processes that were killed are there for a few seconds longer.
SERVICE_FOLLOWERS, RUNNER_FOLLOWERS = 16, 4
API = "$JS.API"


def runner_user(runner_id: str) -> str:
    """The user of one runner.

    >>> runner_user("gpu-1")
    'runner-gpu-1'
    """
    return f"{RUNNER_USERS}{runner_id}"


def inbox_of(user: str) -> str:
    """The prefix of the subjects on which a user gets answers: no other user can subscribe to them.

    >>> inbox_of("gateway")
    '_INBOX_gateway'
    """
    return f"_INBOX_{user}" if user else "_INBOX"


def followers_of(user: str) -> tuple[str, ...]:
    """The names of consumers with which a service follows a stream that also has consumers of others.

    Without them, a user who may create consumers there could change those of others by their names.

    >>> followers_of("runner-gpu-1")[0], len(followers_of("gateway"))
    ('follow-runner-gpu-1-1', 16)
    """
    count = RUNNER_FOLLOWERS if user.startswith(RUNNER_USERS) else SERVICE_FOLLOWERS
    return tuple(f"follow-{user}-{number}" for number in range(1, count + 1))


@dataclass(frozen=True, slots=True)
class Grant:
    """Subjects, and what they are needed for."""

    why: str
    subjects: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UserPermissions:
    """All that one user may do."""

    user: str
    publish: tuple[Grant, ...]
    subscribe: tuple[Grant, ...]

    @property
    def publish_subjects(self) -> tuple[str, ...]:
        """Every subject that it may publish to, in the order of the grants."""
        return tuple(dict.fromkeys(subject for grant in self.publish for subject in grant.subjects))

    @property
    def subscribe_subjects(self) -> tuple[str, ...]:
        """Every subject that it may subscribe to."""
        return tuple(dict.fromkeys(subject for grant in self.subscribe for subject in grant.subjects))


def permissions_of(user: str) -> UserPermissions:
    """The permissions of a user, by its name. Errors: KeyError for a name that is no user of ours.

    >>> permissions_of("admin").publish_subjects, "$KV.runners.a" in permissions_of("runner-a").publish_subjects
    (('>',), True)
    """
    if user.startswith(RUNNER_USERS):
        return _runner(user, user.removeprefix(RUNNER_USERS))
    return {GATEWAY: _gateway, SCHEDULER: _scheduler, PROJECTOR: _projector, ADMIN: _admin}[user]()


def _gateway() -> UserPermissions:
    followed = (
        streams.JOBS,
        streams.STEPS,
        streams.MODELS,
        streams.QUEUES,
        streams.KEYS,
        streams.TENANTS,
        streams.WEBHOOKS,
        streams.DELIVERIES,
        streams.AUDIT,
        streams.RUNNERS,
    )
    audit = (
        installation_events.SignedIn,
        installation_events.CredentialRefused,
        installation_events.AddressFirstUsed,
        installation_events.TenantRead,
    )
    queues = (installation_events.QueueHeld, installation_events.QueueReleased)
    return _service(
        GATEWAY,
        Grant("facts of jobs that clients ask for", _of_jobs(events.GATEWAY_EVENTS)),
        Grant("queues that are held and released", _of_others(queues)),
        Grant("quotas and weights of tenants", _of_others((installation_events.TenantConfigured,))),
        Grant("who signed in, was refused, and read", _of_others(audit)),
        Grant("webhooks, and what became of deliveries to them", _of_others(webhook_events.WEBHOOK_EVENTS)),
        Grant("when a job will start and end, asked of the scheduler", (subjects.FORECASTS,)),
        Grant("which gateway delivers to them", (subjects.key_of(streams.LEADERS_BUCKET, streams.WEBHOOK_LEADER),)),
        followed=followed,
        read=(*followed, streams.LEADERS),
    )


def _scheduler() -> UserPermissions:
    followed = (streams.JOBS, streams.MODELS, streams.QUEUES, streams.TENANTS, streams.TIMERS, streams.RUNNERS)
    return _service(
        SCHEDULER,
        Grant("facts of jobs that it plans, fails and cancels", _of_jobs(events.SCHEDULER_EVENTS)),
        Grant("runners that were lost", _of_others((installation_events.RunnerLost,))),
        Grant("its own leadership", (subjects.key_of(streams.LEADERS_BUCKET, SCHEDULER),)),
        Grant("which model a runner will need next", (subjects.next_model_of("*"),)),
        Grant("when retries are due", (subjects.timer_schedule("*"),)),
        Grant("when jobs will start and end: answers to gateways", (f"{inbox_of(GATEWAY)}.>",)),
        followed=followed,
        read=(*followed, streams.FLEET, streams.LEADERS),
        subscribe=(Grant("when a job will start and end", (subjects.FORECASTS,)),),
    )


# It alone knows what the tables have folded; what is deleted is overwritten on the disk, which a purge does not do.
ERASURES = (
    *(f"{API}.STREAM.PURGE.{spec.name}" for spec in (streams.JOBS, streams.STEPS)),
    *(f"{API}.STREAM.MSG.DELETE.{spec.name}" for spec in (streams.JOBS, streams.STEPS, streams.PARKED)),
)


def _projector() -> UserPermissions:
    followed = (streams.JOBS, streams.STEPS, streams.FLEET, streams.MODELS)
    own = ((streams.ADVISORIES, streams.PARKING), (streams.PARKED, streams.REREADING))
    return _service(
        PROJECTOR,
        Grant("facts of jobs that are erased or archived", _of_jobs(events.PROJECTOR_EVENTS)),
        Grant("removing what is erased or archived", ERASURES),
        Grant("messages that cannot be read", (subjects.address_of(installation_events.MessageParked, PROJECTOR),)),
        *(Grant(f"its durable consumer {name}", tuple(_durable(spec.name, name))) for spec, name in own),
        followed=followed,
        read=(*followed, streams.PARKED, streams.ADVISORIES),
    )


def _runner(user: str, runner_id: str) -> UserPermissions:
    own = (installation_events.RunnerRegistered, installation_events.RunnerStopped)
    consumer, assigned = streams.runner_consumer(runner_id), subjects.assignments_to(runner_id)
    jobs = streams.JOBS.name
    assignments = (
        f"{API}.CONSUMER.CREATE.{jobs}.{consumer}.{assigned}",
        f"{API}.CONSUMER.INFO.{jobs}.{consumer}",
        f"$JS.ACK.{jobs}.{consumer}.>",
    )
    return _service(
        user,
        Grant("facts and progress of attempts that it runs", _of_jobs(events.RUNNER_EVENTS, runner_id)),
        Grant("that it started and stopped", _of_others(own, runner_id)),
        Grant("models that it has", _of_others((installation_events.ModelRegistered,))),
        Grant("its heartbeat", (subjects.key_of(streams.RUNNERS_BUCKET, runner_id),)),
        Grant("its assignments", assignments),
        followed=(streams.JOBS, streams.MODELS),
        read=(streams.JOBS, streams.FLEET, streams.MODELS),
        subscribe=(
            Grant("its assignments", (subjects.deliveries_to(runner_id),)),
            Grant("which model it will need next", (subjects.next_model_of(runner_id),)),
        ),
    )


def _admin() -> UserPermissions:
    everything = (Grant("streams, keys, models, repairs: everything", (">",)),)
    return UserPermissions(ADMIN, everything, everything)


def _service(
    user: str,
    *publish: Grant,
    followed: tuple[StreamSpec | BucketSpec, ...],
    read: tuple[StreamSpec | BucketSpec, ...],
    subscribe: tuple[Grant, ...] = (),
) -> UserPermissions:
    """With what every service does besides: see that the streams are there and that the log works, and get answers."""
    stored: tuple[StreamSpec | BucketSpec, ...] = (*streams.STREAMS, *streams.BUCKETS)
    common = (
        Grant("whether each stream is there, and its end", tuple(f"{API}.STREAM.INFO.{s.stream_name}" for s in stored)),
        Grant("a probe of the log", (subjects.probe_of(user),)),
        Grant("one message, or the last of each subject", tuple(_reads((*read, streams.PROBES)))),
        Grant("following streams", tuple(_follows(user, followed))),
    )
    inbox = Grant("answers", (f"{inbox_of(user)}.>",))
    return UserPermissions(user, (*publish, *common), (inbox, *subscribe))


def _reads(stored: tuple[StreamSpec | BucketSpec, ...]) -> Iterator[str]:
    for spec in stored:
        name = spec.stream_name
        yield from (f"{API}.STREAM.MSG.GET.{name}", f"{API}.DIRECT.GET.{name}", f"{API}.DIRECT.GET.{name}.>")


def _follows(user: str, followed: tuple[StreamSpec | BucketSpec, ...]) -> Iterator[str]:
    """Consumers of names of its own where others have theirs; elsewhere of names that the server makes up."""
    for spec in followed:
        name = spec.stream_name
        if name not in CONSUMED:
            yield from (f"{API}.CONSUMER.CREATE.{name}", f"{API}.CONSUMER.MSG.NEXT.{name}.*")
            continue
        for action in ("CREATE", "MSG.NEXT", "DELETE"):
            yield from (f"{API}.CONSUMER.{action}.{name}.{each}" for each in followers_of(user))


def _durable(stream: str, name: str) -> Iterator[str]:
    yield f"{API}.CONSUMER.DURABLE.CREATE.{stream}.{name}"
    yield f"{API}.CONSUMER.MSG.NEXT.{stream}.{name}"
    yield f"$JS.ACK.{stream}.{name}.>"


def _of_jobs(kinds: Iterable[type[events.JobEvent]], runner_id: str | None = None) -> tuple[str, ...]:
    return tuple(subjects.published_by(kind, runner_id) for kind in kinds)


def _of_others(kinds: tuple[type[events.Event], ...], entity_id: str = "*") -> tuple[str, ...]:
    return tuple(subjects.address_of(kind, entity_id) for kind in kinds)
