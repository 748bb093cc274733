"""What must be true after fault injection, checked against log, tables, object store and streams."""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, fields

import psycopg
from bench.clients import ClientRecord, StreamRecord
from bench.log_observer import LogObserver

from dreamforge.contracts.events import StepProgressed
from dreamforge.projector.maintenance.artifact_collector import collect
from dreamforge.runtime.log.follow import last_sequence
from dreamforge.runtime.storage.objects import ObjectStore, object_key, sha256_of
from dreamforge.runtime.storage.settings import StorageSettings
from dreamforge.runtime.testing import eventually


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One row of the table; `expected` is None for what is only reported."""

    what: str
    actual: object
    expected: object = None

    @property
    def passed(self) -> bool:
        """True if the value is the expected one, or only reported."""
        return self.expected is None or self.actual == self.expected


async def check_invariants(
    observer: LogObserver, clients: ClientRecord, settings: StorageSettings, images: int, *, steps_survive: bool
) -> list[CheckResult]:
    """Check everything, after all jobs ended and the projection has caught up.

    `steps_survive`: the broker received no fault. A killed one may lose the last steps and reuse their sequence
    numbers, which is not promised otherwise (docs/guarantees.md); job events are fsynced and must survive.
    """
    await projected(observer, settings)
    accepted = set(clients.accepted)
    ends = [observer.terminal(job) for job in accepted]
    outcomes = Counter(end[0].TOKEN for end in ends if end)
    store = ObjectStore(settings)
    faults = streams(observer, clients.readers)
    orphans_before, orphans_after = await orphans(observer, settings, store)
    attempts = Counter(observer.attempts())
    return [
        CheckResult("accepted", len(accepted)),
        CheckResult("reached one terminal state", sum(len(end) == 1 for end in ends), len(accepted)),
        CheckResult("lost", sum(job not in observer.facts for job in accepted) + len(observer.open_jobs()), 0),
        CheckResult("terminal events beyond one a job", sum(max(0, len(end) - 1) for end in ends), 0),
        CheckResult("keys that made a second job", clients.duplicated_keys, 0),
        CheckResult("jobs that no client was told of", len(observer.requested() - accepted), 0),
        CheckResult("cancelled without a client's request", unrequested_cancels(observer, clients), 0),
        CheckResult(
            "succeeded / failed / cancelled", " / ".join(str(outcomes[k]) for k in ("succeeded", "failed", "cancelled"))
        ),
        CheckResult("visible artifacts wrong", await wrong_artifacts(observer, settings, store, images), 0),
        CheckResult("images kept of cancelled and failed jobs", kept_images(observer)),
        CheckResult("objects of lost attempts before collection", orphans_before),
        CheckResult("orphan objects after collection", orphans_after, 0),
        CheckResult("SSE readers that saw the end", sum(r.ended for r in clients.readers), len(clients.readers)),
        CheckResult("SSE connections", sum(r.connections for r in clients.readers)),
        CheckResult("SSE gaps", faults.fact_gaps, 0),
        CheckResult("SSE gaps in steps", faults.step_gaps, 0 if steps_survive else None),
        CheckResult("SSE repeats", faults.repeats, 0),
        CheckResult("SSE steps with a number used again", faults.step_numbers_used_again, 0 if steps_survive else None),
        CheckResult("client retries", clients.retries),
        CheckResult("unreadable events in the log", observer.unreadable, 0),
        CheckResult("attempts per job", ", ".join(f"{n}: {count}" for n, count in sorted(attempts.items()))),
    ]


async def projected(observer: LogObserver, settings: StorageSettings) -> None:
    """Wait until the tables have all of the log."""
    newest = await last_sequence(observer.bus, "JOBS")

    def caught_up() -> bool:
        with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as connection:
            row = connection.execute("SELECT sequence FROM checkpoints WHERE stream = 'JOBS'").fetchone()
        return row is not None and row[0] >= newest

    await eventually(caught_up, timeout_seconds=60)


def unrequested_cancels(observer: LogObserver, clients: ClientRecord) -> int:
    """Jobs that were cancelled although no client asked for it."""
    cancelled = {job for job in clients.accepted if any(e.TOKEN == "cancelled" for e in observer.terminal(job))}
    return len(cancelled - clients.cancelled)


async def wrong_artifacts(observer: LogObserver, settings: StorageSettings, store: ObjectStore, images: int) -> int:
    """Jobs that do not show exactly the images that they stored, each index once, and objects that are not there.

    A succeeded job must have stored all of its images, and promise exactly these.
    """
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as connection:
        rows = connection.execute('SELECT job_id, "index", sha256 FROM artifacts WHERE visible')
        visible: dict[str, list[tuple[int, str]]] = {}
        for job_id, index, sha256 in rows.fetchall():
            visible.setdefault(job_id, []).append((index, sha256))
    wrong = 0
    for job_id in observer.facts:
        stored = [(index, sha256) for index, all_ in observer.stored_images(job_id).items() for sha256 in all_]
        wrong += sorted(visible.get(job_id, [])) != sorted(stored) or len(dict(stored)) != len(stored)
        if (promised := observer.promised_images(job_id)) is not None:
            wrong += list(enumerate(promised)) != sorted(stored) or len(promised) != images
    return wrong + await broken_objects(store, {sha for shown in visible.values() for _, sha in shown})


def kept_images(observer: LogObserver) -> int:
    """Images that jobs had finished before they were cancelled or failed."""
    ended = [job for job in observer.facts if observer.promised_images(job) is None]
    return sum(len(observer.stored_images(job)) for job in ended)


async def broken_objects(store: ObjectStore, hashes: set[str]) -> int:
    """Images that are missing or whose content is not what their hash says."""
    limit = asyncio.Semaphore(8)

    async def broken(sha256: str) -> bool:
        async with limit:
            try:
                return sha256_of(await store.get(object_key(sha256))) != sha256
            except Exception:
                return True

    return sum(await asyncio.gather(*(broken(sha256) for sha256 in hashes)))


async def orphans(observer: LogObserver, settings: StorageSettings, store: ObjectStore) -> tuple[int, int]:
    """Objects that no job shows, before and after a collection without grace period (all jobs ended)."""
    shown = {object_key(sha) for job in observer.facts for all_ in observer.stored_images(job).values() for sha in all_}
    before = sum(found.key not in shown for found in await store.listed())
    await collect(settings.database_url.get_secret_value(), observer.bus, store, grace_seconds=0)
    return before, sum(found.key not in shown for found in await store.listed())


@dataclass(frozen=True, slots=True)
class StreamFaults:
    """What readers of event streams did not get exactly once and in order."""

    fact_gaps: int = 0
    step_gaps: int = 0
    repeats: int = 0
    step_numbers_used_again: int = 0


def streams(observer: LogObserver, readers: list[StreamRecord]) -> StreamFaults:
    """Over all readers. An event is what its data says: steps that were lost give their numbers to later ones."""
    found = [stream_faults(observer, reader) for reader in readers]
    names = [each.name for each in fields(StreamFaults)]
    return StreamFaults(**{name: sum(getattr(each, name) for each in found) for name in names})


def stream_faults(observer: LogObserver, reader: StreamRecord) -> StreamFaults:
    """Those of one reader, over all of its connections."""
    facts: list[int] = []
    steps: list[int] = []
    for _, data in reader.events:
        event = json.loads(data)
        (steps if event["type"] == StepProgressed.TYPE else facts).append(event["sequence"])
    seen = set(steps)
    expected = {sequence for sequence, _ in observer.facts[reader.job_id]}
    missing = [step for step in observer.steps[reader.job_id] if step <= max(seen, default=0) and step not in seen]
    contents = [data for _, data in reader.events]
    return StreamFaults(
        fact_gaps=len(expected - set(facts)) + (facts != sorted(facts)),
        step_gaps=len(missing) + (steps != sorted(steps)),
        repeats=len(contents) - len(set(contents)) + len(facts) - len(set(facts)),
        step_numbers_used_again=len(steps) - len(seen),
    )


def print_table(lines: list[CheckResult], seconds: float) -> bool:
    """Print the table; True if every check passed."""
    for line in lines:
        mark = "  " if line.expected is None else ("ok" if line.passed else "NO")
        expected = "" if line.passed else f"   (must be {line.expected})"
        print(f"{mark}  {line.what:<44} {line.actual}{expected}")
    print(f"    checked in {seconds:.1f} s")
    return all(line.passed for line in lines)
