"""The log: whether NATS answers, is new enough, fsyncs, has the streams, has room, and agrees on the time."""

from collections.abc import AsyncIterator
from typing import Any

from dreamforge.cli.client.event_log import connect_bus
from dreamforge.cli.doctor.findings import Finding, Severity, note, ok, warning
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.log.streams import JOBS, STREAMS
from dreamforge.contracts.readable_sizes import readable_size
from dreamforge.runtime.log import clock_skew
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.durability import require_durable
from dreamforge.runtime.log.streams import require_streams

# From here on there is still time to act before appends are refused.
NEARLY_FULL = 0.8
#: What each subject takes of nats-server's memory (docs/measurements): a job has about seven.
BYTES_A_SUBJECT = 188
MANY_SUBJECTS = 20_000_000


async def check_nats(settings: CliSettings) -> AsyncIterator[Finding]:
    """Each step rests on the one before it. Errors: ForgeError, ApiError where one does not hold."""
    async with connect_bus(settings) as bus:
        version = bus.nc.connected_server_version
        yield ok("nats", f"nats-server {version.major}.{version.minor}.{version.patch} answers")
        await require_durable(settings)
        if settings.nats_allow_unsynced:
            remedy = "set `jetstream { sync_interval: always }` there, and unset FORGE_NATS_ALLOW_UNSYNCED"
            yield warning("nats", "FORGE_NATS_ALLOW_UNSYNCED is set: a power failure may lose accepted jobs", remedy)
        else:
            yield ok("nats", "events are on the disk before they are acknowledged")
        await require_streams(bus)
        yield ok("nats", f"all {len(STREAMS)} streams are there")
        for spec in STREAMS:
            finding = judge_stream(spec.name, await bus.request(f"$JS.API.STREAM.INFO.{spec.name}", None))
            if finding.severity is not Severity.OK or spec is JOBS:
                yield finding
        yield judge_account(await bus.request("$JS.API.INFO", None))
        yield judge_skew(await _skew(bus))


def judge_stream(name: str, info: dict[str, Any]) -> Finding:  # Any: JSON
    """How full a stream is.

    >>> judge_stream("JOBS", {"config": {"max_bytes": 100, "discard": "new"}, "state": {"bytes": 90}}).severity
    <Severity.WARNING: 'warning'>
    """
    state, most = info["state"], int(info["config"].get("max_bytes", -1))
    used, subjects = int(state["bytes"]), int(state.get("num_subjects", 0))
    fact = f"stream {name}: {readable_size(used)}" + (f" of {readable_size(most)}" if most > 0 else "")
    if 0 < most * NEARLY_FULL <= used and info["config"].get("discard") == "new":
        return warning("nats", fact, f"raise its limit: `nats stream edit {name} --max-bytes=...`")
    if subjects > MANY_SUBJECTS:
        memory = readable_size(subjects * BYTES_A_SUBJECT)
        return warning("nats", f"{fact}, {subjects} subjects, about {memory} of memory there", "delete old jobs")
    return ok("nats", fact)


def judge_account(info: dict[str, Any]) -> Finding:  # Any: JSON
    """How full the account's storage is.

    >>> judge_account({"storage": 9, "limits": {"max_storage": -1}}).severity
    <Severity.OK: 'ok'>
    """
    used, most = int(info["storage"]), int(info["limits"].get("max_storage", -1))
    if most <= 0:
        return ok("nats", f"{readable_size(used)} of storage used, no limit for the account")
    fact = f"{readable_size(used)} of the {readable_size(most)} that the account may store"
    remedy = "raise `max_file` in the server's configuration: full streams refuse jobs"
    return warning("nats", fact, remedy) if used >= NEARLY_FULL * most else ok("nats", fact)


def judge_skew(skew_seconds: float | None) -> Finding:
    """Whether this machine's clock and the log's agree.

    >>> judge_skew(-300.0).fact
    "this machine's clock is 300.0 s behind the log's"
    """
    if skew_seconds is None:
        return note("clock", "the log answers too slowly to compare clocks")
    if abs(skew_seconds) < clock_skew.TOLERATED_SECONDS:
        return ok("clock", "agrees with the log's")
    direction = "ahead of" if skew_seconds > 0 else "behind"
    fact = f"this machine's clock is {abs(skew_seconds):.1f} s {direction} the log's"
    return warning("clock", fact, "services correct their times by it; set it by NTP (`timedatectl set-ntp true`)")


async def _skew(bus: Bus) -> float | None:
    for _ in range(clock_skew.FIRST_TRIES):
        if (skew := await clock_skew.measure(bus)) is not None:
            return skew
    return None
