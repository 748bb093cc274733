"""The object store: whether what is written there can be read, and how pictures come to a browser."""

from collections.abc import AsyncIterator

from dreamforge.cli.doctor.findings import Finding, note, ok, warning
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.errors import ArtifactNotFound
from dreamforge.runtime import clock
from dreamforge.runtime.storage.objects import PROBE, PROBE_DATA, ObjectStore

SLOW_SECONDS = 1.0


async def check_objects(settings: CliSettings) -> AsyncIterator[Finding]:
    """Write and read the object of the readiness checks. Errors: InvalidSettings, DependencyAway."""
    store, began = ObjectStore(settings), clock.monotonic_seconds()
    try:
        await store.put(PROBE, PROBE_DATA, "text/plain")
        same = await store.get(PROBE) == PROBE_DATA
    except ArtifactNotFound:
        yield note("objects", f"there is no bucket {store.bucket!r} yet: the first service that starts makes it")
        return
    yield judge_round_trip(clock.monotonic_seconds() - began, same=same)
    yield ok("objects", "browsers need no way to the store: the gateway serves the pictures")


def judge_round_trip(seconds: float, *, same: bool) -> Finding:
    """Whether the store gives back what it was given, and how soon."""
    if not same:
        remedy = "see what answers under FORGE_S3_ENDPOINT: it is no object store, or a cache is before it"
        return warning("objects", "the store gave back other bytes than it was given", remedy)
    fact = f"an object written and read in {seconds * 1000:.0f} ms"
    if seconds > SLOW_SECONDS:
        return warning("objects", fact, "each picture waits for that: use a store that is nearer")
    return ok("objects", fact)
