"""Creates and updates the server's streams and buckets as `contracts.log.streams` declares them; only this module does.

Raw API requests, because neither nats-py nor FastStream supports all of the options.
"""

from typing import Any

from dreamforge.contracts.errors import BrokerUnfit, DependencyAway
from dreamforge.contracts.log.streams import BUCKETS, STREAMS, BucketSpec, StreamSpec
from dreamforge.contracts.log.subjects import key_of
from dreamforge.runtime.log.bus import ApiError, Bus, connect
from dreamforge.runtime.log.durability import require_durable
from dreamforge.runtime.service import retry
from dreamforge.runtime.service.settings import CommonSettings

NOT_FOUND = 10059
NAME_IN_USE = 10058
NANOSECONDS = 1_000_000_000
# nats-server tracks message ids this long to drop repeats; repeats of events are refused by version anyway.
DUPLICATE_WINDOW_SECONDS = 120


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
        return config | {"allow_atomic": True, "deny_delete": True}
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
    """What every service does first: connect, refuse a broker that may lose events, declare the streams.

    Waits for as long as NATS is unavailable. Errors: BrokerUnfit.
    """
    bus = await connect(settings.nats_url, name)
    try:
        await require_durable(settings)
        await retry.until_it_works(
            "JetStream", lambda: ensure_streams(bus, replicas=settings.stream_replicas), DependencyAway
        )
    except BaseException:
        await bus.close()
        raise
    return bus


async def ensure_streams(bus: Bus, *, replicas: int = 1) -> None:
    """Create what is missing and update what differs; every service calls it at start, in any order."""
    for spec in STREAMS:
        await _ensure(bus, stream_config(spec, replicas=replicas))
    for bucket in BUCKETS:
        await _ensure(bus, bucket_config(bucket, replicas=replicas))


async def _ensure(bus: Bus, config: dict[str, Any]) -> None:
    name = config["name"]
    try:
        found = await bus.request(f"$JS.API.STREAM.INFO.{name}", None)
    except ApiError as error:
        if error.code != NOT_FOUND:
            raise BrokerUnfit(reason=f"stream {name}: {error}") from error
        await _create(bus, config)
        return
    # A server fills in defaults, so only what is declared is compared.
    if any(found["config"].get(key, _absent(value)) != value for key, value in config.items()):
        await bus.request(f"$JS.API.STREAM.UPDATE.{name}", found["config"] | config)


async def _create(bus: Bus, config: dict[str, Any]) -> None:
    try:
        await bus.request(f"$JS.API.STREAM.CREATE.{config['name']}", config)
    except ApiError as error:
        if error.code != NAME_IN_USE:  # another service was first
            raise BrokerUnfit(reason=f"stream {config['name']}: {error}") from error


def _absent(value: object) -> object:
    """The value of a field that the server left out of its answer: its zero."""
    return type(value)() if isinstance(value, bool | int | str) else None
