"""Creates and updates the server's streams and buckets as `contracts.log.streams` declares them; only this module does.

An administrator does that (`dreamforge streams create`, or `dreamforge up` at its start); services only see that what
they need is there. Raw API requests, because neither nats-py nor FastStream supports all of the options.
"""

from typing import Any

from dreamforge.contracts.errors import BrokerUnfit, DependencyAway, NotOurs
from dreamforge.contracts.log.streams import ADVISORIES, AUDIT, BUCKETS, DAY_SECONDS, STREAMS, BucketSpec, StreamSpec
from dreamforge.contracts.log.subjects import key_of
from dreamforge.runtime.log import clock_skew, identity
from dreamforge.runtime.log.bus import ApiError, Bus, connect, refusal
from dreamforge.runtime.log.durability import require_durable
from dreamforge.runtime.service import retry
from dreamforge.runtime.service.settings import CommonSettings

NOT_FOUND = 10059
NAME_IN_USE = 10058
SUBJECTS_OVERLAP = 10065
# It is not enabled on the server, or not for this account.
WITHOUT_JETSTREAM = (10076, 10039)
NANOSECONDS = 1_000_000_000
# nats-server tracks message ids this long to drop repeats; repeats of events are refused by version anyway.
DUPLICATE_WINDOW_SECONDS = 120
OUR_SUBJECTS = "forge."
CREATED, UPDATED, UNCHANGED = "created", "updated", "unchanged"
# What the server changes of no stream; only buckets of older releases differ in it.
FIXED = {"storage", "persist_mode"}
# What an administrator chooses, or only people read.
NOT_OF_SERVICES = {"num_replicas", "description", "persist_mode", "duplicate_window", "deny_delete"}
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
    """The server's configuration of one stream. Pure.

    All have the same replicas: a stream with one is offline with its server, and services need to see every stream.
    """
    config: dict[str, Any] = {
        "name": spec.name,
        "description": spec.title,
        "subjects": list(spec.subjects),
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
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
    return config if replicas > 1 else config | {"persist_mode": "async"}


def bucket_config(spec: BucketSpec, *, replicas: int) -> dict[str, Any]:
    """A bucket of leases: one value a key, removed when its time to live ends. Pure.

    On disk, since a bucket in memory is gone with its server, and services may not make it again; a lease that is lost
    with its power is renewed anyway, so on one server it is not fsynced.
    """
    config = {
        "name": f"KV_{spec.name}",
        "description": spec.title,
        "subjects": [key_of(spec.name, ">")],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "max_msgs_per_subject": 1,
        "discard": "new",
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_msg_ttl": True,
        "subject_delete_marker_ttl": spec.marker_seconds * NANOSECONDS,
    }
    return config if replicas > 1 else config | {"persist_mode": "async"}


async def open_log(settings: CommonSettings, name: str, *, user: str = "") -> Bus:
    """What every service does first: connect, refuse a broker that may lose events, see its streams, agree on the time.

    Waits for as long as NATS is unavailable, or streams are missing. Errors: BrokerUnfit, NotOurs.
    """
    bus = await connect_as(settings, name, user=user)
    try:
        await require_durable(settings)
        await retry.until_it_works("JetStream", lambda: require_streams(bus), DependencyAway)
        await clock_skew.measure_first(bus)
    except BaseException:
        await bus.close()
        raise
    bus.run_beside(clock_skew.keep_measuring(bus), "clock skew")
    return bus


async def connect_as(settings: CommonSettings, name: str, *, user: str = "", wait: bool = True) -> Bus:
    """The connection that the settings describe. Errors: as `connect`."""
    return await connect(
        settings.nats_url,
        name,
        settings.nats_prefix,
        user=user,
        seed_file=settings.nats_seed_file,
        ca_file=settings.nats_ca_file,
        wait=wait,
    )


async def ensure_streams(bus: Bus, *, replicas: int = 1, audit_days: float | None = None) -> dict[str, str]:
    """Create what is missing and update what differs; anyone who may, at the same time as others, any number of times.

    Returns what was done, by stream: "created", "updated" or "unchanged". Errors: NotOurs for a stream of one of our
    names that something else made; BrokerUnfit, DependencyAway, ApiError.
    """
    done: dict[str, str] = {}
    for config in _configs(replicas):
        # Only who has that setting knows how long the audit is kept: others leave it as they find it.
        as_found: tuple[str, ...] = ()
        if config["name"] == AUDIT.name and audit_days is None:
            as_found = ("max_age",)
        elif config["name"] == AUDIT.name and audit_days is not None:
            config["max_age"] = int(audit_days * DAY_SECONDS * NANOSECONDS)
        done[config["name"]] = await _ensure(bus, config, as_found)
    return done


async def require_streams(bus: Bus) -> None:
    """That every stream is there and as it is declared, as far as it matters to a service.

    Errors: DependencyAway with the command that makes them; NotOurs; BrokerUnfit.
    """
    found = {config["name"]: (await _info(bus, config["name"]), config) for config in _configs(replicas=1)}
    if missing := [name for name, (info, _) in found.items() if info is None]:
        raise _not_made("are missing", missing)
    for info, config in found.values():
        _require_ours(info or {}, config)
    found[AUDIT.name][1].pop("max_age")
    if other := [name for name, (info, config) in found.items() if _differences(info or {}, config) - NOT_OF_SERVICES]:
        raise _not_made("are those of another release", other)


def _configs(replicas: int) -> list[dict[str, Any]]:
    streams = [stream_config(spec, replicas=replicas) for spec in STREAMS]
    return streams + [bucket_config(spec, replicas=replicas) for spec in BUCKETS]


def _not_made(what: str, streams: list[str]) -> DependencyAway:
    named = ", ".join(streams[:3]) + (f" and {len(streams) - 3} more" if len(streams) > 3 else "")
    reason = f"{named} {what}: an administrator runs `dreamforge streams create`"
    return DependencyAway(dependency="nats", reason=reason)


async def _ensure(bus: Bus, config: dict[str, Any], as_found: tuple[str, ...] = ()) -> str:
    name = config["name"]
    found = await _info(bus, name)
    if found is None:
        found = await _create(bus, config)
        if found is None:
            return CREATED
    _require_ours(found, config)
    if found["config"].get("persist_mode") == "async":  # which the server neither takes back nor replicates
        as_found = (*as_found, "num_replicas")
    config = {key: value for key, value in config.items() if key not in as_found}
    if found["config"].get("deny_delete"):  # which the server never takes back: older releases set it everywhere
        config = config | {"deny_delete": True}
    different = _differences(found, config)
    if not different:
        return UNCHANGED
    if different & FIXED and name.startswith("KV_"):  # leases: what is lost is renewed within seconds
        await bus.request(f"$JS.API.STREAM.DELETE.{name}", None)
        await _create(bus, config)
        return CREATED
    wanted = config | {"metadata": identity.kept_metadata(found)}
    await bus.request(f"$JS.API.STREAM.UPDATE.{name}", found["config"] | wanted)
    return UPDATED


def _differences(found: dict[str, Any], config: dict[str, Any]) -> set[str]:
    """What of a stream is not as declared; a server fills in defaults, so nothing else is compared."""
    marked = set() if identity.is_marked(found) else {"metadata"}
    return marked | {key for key, value in config.items() if found["config"].get(key, _absent(value)) != value}


async def _info(bus: Bus, name: str) -> dict[str, Any] | None:
    try:
        return await bus.request(f"$JS.API.STREAM.INFO.{name}", None)
    except ApiError as error:
        if error.code == NOT_FOUND:
            return None
        if error.code in WITHOUT_JETSTREAM:
            raise BrokerUnfit(reason=f"stream {name}: {error}") from error
        raise refusal(error, f"a look at stream {name}") from error  # no leader, or offline: what passes


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
