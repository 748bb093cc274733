"""Creates and updates the server's streams and buckets as `contracts.log.streams` declares them; only this module does.

Raw API requests, because neither nats-py nor FastStream supports all of the options.
"""

from typing import Any

from dreamforge.contracts.errors import BrokerUnfit, DependencyAway, NotOurs
from dreamforge.contracts.log.streams import ADVISORIES, AUDIT, BUCKETS, DAY_SECONDS, STREAMS, BucketSpec, StreamSpec
from dreamforge.contracts.log.subjects import key_of
from dreamforge.runtime.log import clock_skew, identity
from dreamforge.runtime.log.bus import ApiError, Bus, connect
from dreamforge.runtime.log.durability import require_durable
from dreamforge.runtime.service import retry
from dreamforge.runtime.service.settings import CommonSettings

NOT_FOUND = 10059
NAME_IN_USE = 10058
SUBJECTS_OVERLAP = 10065
NANOSECONDS = 1_000_000_000
# nats-server tracks message ids this long to drop repeats; repeats of events are refused by version anyway.
DUPLICATE_WINDOW_SECONDS = 120
OUR_SUBJECTS = "forge."
# Names and subjects that others may use too: those that older releases made are known by their descriptions.
TITLES: dict[str, tuple[str, ...]] = {
    "ADVISORIES": (
        ADVISORIES.title,
        "messages that a consumer will not get again, 7 days: kept, so that none is dropped unnoticed",
        "messages that some consumer will not get again, 7 days: kept, so that none is dropped unseen",
    ),
    **{f"KV_{bucket.name}": (bucket.title,) for bucket in BUCKETS},
}
TITLES["KV_leaders"] += ("who is active, of services that have one active process",)


def stream_config(spec: StreamSpec, *, replicas: int) -> dict[str, Any]:
    """The server's configuration of one stream. Pure."""
    config: dict[str, Any] = {
        "name": spec.name,
        "description": spec.title,
        "subjects": list(spec.subjects),
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas if spec.facts else 1,
        "max_age": int(spec.max_age_seconds * NANOSECONDS),
        "max_bytes": spec.max_bytes,
        "discard": "new" if spec.facts else "old",
        "duplicate_window": DUPLICATE_WINDOW_SECONDS * NANOSECONDS,
        "allow_direct": True,
    }
    if spec.schedules:  # which the server supports only with this discard policy
        config |= {"allow_msg_schedules": True, "allow_msg_ttl": True, "discard": "old"}
    if spec.facts:
        return config | {"allow_atomic": True, "deny_delete": not spec.erasable}
    return config | {"persist_mode": "async"}


def bucket_config(spec: BucketSpec, *, replicas: int) -> dict[str, Any]:
    """A bucket of leases: in memory, one value a key, removed when its time to live ends. Pure."""
    return {
        "name": f"KV_{spec.name}",
        "description": spec.title,
        "subjects": [key_of(spec.name, ">")],
        "retention": "limits",
        "storage": "memory",
        "num_replicas": replicas,
        "max_msgs_per_subject": 1,
        "discard": "new",
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_msg_ttl": True,
        "subject_delete_marker_ttl": spec.marker_seconds * NANOSECONDS,
    }


async def open_log(settings: CommonSettings, name: str) -> Bus:
    """What every service does first: connect, refuse a broker that may lose events, declare streams, agree on the time.

    Waits for as long as NATS is unavailable. Errors: BrokerUnfit.
    """
    bus = await connect(settings.nats_url, name, settings.nats_prefix)
    try:
        await require_durable(settings)
        await retry.until_it_works(
            "JetStream",
            lambda: ensure_streams(bus, replicas=settings.stream_replicas, audit_days=settings.audit_retention_days),
            DependencyAway,
        )
        await clock_skew.measure_first(bus)
    except BaseException:
        await bus.close()
        raise
    bus.run_beside(clock_skew.keep_measuring(bus), "clock skew")
    return bus


async def ensure_streams(bus: Bus, *, replicas: int = 1, audit_days: float | None = None) -> None:
    """Create what is missing and update what differs; every service calls it at start, in any order.

    Errors: NotOurs for a stream of one of our names that something else made; BrokerUnfit, DependencyAway.
    """
    for spec in STREAMS:
        config = stream_config(spec, replicas=replicas)
        if spec is AUDIT and audit_days is not None:
            config["max_age"] = int(audit_days * DAY_SECONDS * NANOSECONDS)
        # Only a service that starts knows how long the audit is kept: others leave it as they find it.
        as_found = ("max_age",) if spec is AUDIT and audit_days is None else ()
        await _ensure(bus, config, as_found)
    for bucket in BUCKETS:
        await _ensure(bus, bucket_config(bucket, replicas=replicas))


async def _ensure(bus: Bus, config: dict[str, Any], as_found: tuple[str, ...] = ()) -> None:
    name = config["name"]
    found = await _info(bus, name) or await _create(bus, config)
    if found is None:
        return
    _require_ours(found, config)
    config = {key: value for key, value in config.items() if key not in as_found}
    if found["config"].get("deny_delete"):  # which the server never takes back: older releases set it everywhere
        config = config | {"deny_delete": True}
    wanted = config | {"metadata": identity.kept_metadata(found)}
    # A server fills in defaults, so only what is declared is compared.
    if not identity.is_marked(found) or any(
        found["config"].get(key, _absent(value)) != value for key, value in config.items()
    ):
        await bus.request(f"$JS.API.STREAM.UPDATE.{name}", found["config"] | wanted)


async def _info(bus: Bus, name: str) -> dict[str, Any] | None:
    try:
        return await bus.request(f"$JS.API.STREAM.INFO.{name}", None)
    except ApiError as error:
        if error.code != NOT_FOUND:
            raise BrokerUnfit(reason=f"stream {name}: {error}") from error
        return None


async def _create(bus: Bus, config: dict[str, Any]) -> dict[str, Any] | None:
    """Create a stream with an identity of its own; the one that is there if another service was first."""
    name = config["name"]
    try:
        await bus.request(f"$JS.API.STREAM.CREATE.{name}", config | {"metadata": identity.new_metadata()})
    except ApiError as error:
        if error.code == NAME_IN_USE:
            return await _info(bus, name)
        if error.code == SUBJECTS_OVERLAP:
            # Servers do not say which subject it is. Releases before 2026-11-26 stored the advisories of all streams.
            first, *more = config["subjects"]
            listed = f"{first} or one of {len(more)} more subjects of it" if more else first
            hint = "; an older release of Dream Forge there is upgraded first" if name.endswith("ADVISORIES") else ""
            raise _not_ours(name, f"another stream stores {listed}{hint}") from error
        raise BrokerUnfit(reason=f"stream {name}: {error}") from error
    return None


def _require_ours(found: dict[str, Any], config: dict[str, Any]) -> None:
    """A stream without our mark is ours where an older release made it: by its subjects, or by what it says it is."""
    old = found["config"]
    subjects = old.get("subjects") or [""]
    if identity.is_marked(found) or all(subject.startswith(OUR_SUBJECTS) for subject in subjects):
        return
    if old.get("description") not in TITLES.get(config["name"], ()):
        raise _not_ours(
            config["name"], f"its subjects are {', '.join(subjects)}, its description is {old.get('description', '')!r}"
        )


def _not_ours(name: str, found: str) -> NotOurs:
    return NotOurs(
        what=f"stream {name} on NATS",
        found=found,
        remedy="set FORGE_NATS_PREFIX to a name of your own, or use another NATS server or account",
    )


def _absent(value: object) -> object:
    """The value of a field that the server left out of its answer: its zero."""
    return type(value)() if isinstance(value, bool | int | str) else None
