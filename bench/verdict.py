"""What must hold after the storm, each line checked against the log itself, the tables, the store and the streams."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

import psycopg
from bench.crowd import Crowd, Seen
from bench.ledger import Ledger

from dreamforge.projector.maintenance.artifact_collector import collect
from dreamforge.runtime.log.follow import last_sequence
from dreamforge.runtime.service.settings import CommonSettings
from dreamforge.runtime.storage.objects import ObjectStore, object_key, sha256_of
from dreamforge.runtime.testing import eventually


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table; `wanted` is None for what is only reported."""

    what: str
    found: object
    wanted: object = None

    @property
    def holds(self) -> bool:
        """True if it is as it must be."""
        return self.wanted is None or self.found == self.wanted


async def verdict(
    ledger: Ledger, crowd: Crowd, settings: CommonSettings, images: int, *, steps_survive: bool
) -> list[Line]:
    """Every line, after everything is over and the projection has caught up.

    `steps_survive`: no broker was hurt. A killed one may forget the last steps and number new ones in their place,
    which is not promised otherwise (docs/guarantees.md); facts have no such excuse.
    """
    await projected(ledger, settings)
    accepted = set(crowd.accepted)
    ends = [ledger.terminal(job) for job in accepted]
    outcomes = Counter(end[0].TOKEN for end in ends if end)
    store = ObjectStore(settings)
    facts, steps, repeats = streams(ledger, crowd.readers)
    orphans_before, orphans_after = await orphans(ledger, settings, store)
    attempts = Counter(ledger.attempts())
    return [
        Line("accepted", len(accepted)),
        Line("reached one terminal state", sum(len(end) == 1 for end in ends), len(accepted)),
        Line("lost", sum(job not in ledger.facts for job in accepted) + len(ledger.open_jobs()), 0),
        Line("terminal events beyond one a job", sum(max(0, len(end) - 1) for end in ends), 0),
        Line("keys that made a second job", crowd.renamed, 0),
        Line("jobs nobody was told of", len(ledger.requested() - accepted), 0),
        Line("cancelled against the client's wish", unwanted_cancels(ledger, crowd), 0),
        Line(
            "succeeded / failed / cancelled", " / ".join(str(outcomes[k]) for k in ("succeeded", "failed", "cancelled"))
        ),
        Line("visible artifacts wrong", await wrong_artifacts(ledger, settings, store, images), 0),
        Line("objects of lost attempts before collection", orphans_before),
        Line("orphan objects after collection", orphans_after, 0),
        Line("SSE readers that saw the end", sum(r.ended for r in crowd.readers), len(crowd.readers)),
        Line("SSE connections", sum(r.connections for r in crowd.readers)),
        Line("SSE gaps", facts, 0),
        Line("SSE gaps in steps", steps, 0 if steps_survive else None),
        Line("SSE repeats", repeats, 0),
        Line("client retries", crowd.retries),
        Line("unreadable events in the log", ledger.unreadable, 0),
        Line("attempts per job", ", ".join(f"{n}: {count}" for n, count in sorted(attempts.items()))),
    ]


async def projected(ledger: Ledger, settings: CommonSettings) -> None:
    """Wait until the tables have all of the log."""
    newest = await last_sequence(ledger.bus, "JOBS")

    def caught_up() -> bool:
        with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as connection:
            row = connection.execute("SELECT sequence FROM checkpoints WHERE stream = 'JOBS'").fetchone()
        return row is not None and row[0] >= newest

    await eventually(caught_up, timeout_seconds=60)


def unwanted_cancels(ledger: Ledger, crowd: Crowd) -> int:
    """Jobs cancelled that nobody asked to cancel."""
    cancelled = {job for job in crowd.accepted if any(e.TOKEN == "cancelled" for e in ledger.terminal(job))}
    return len(cancelled - crowd.cancelled)


async def wrong_artifacts(ledger: Ledger, settings: CommonSettings, store: ObjectStore, images: int) -> int:
    """Succeeded jobs that do not show exactly their pictures, others that show any, and objects that are not there."""
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as connection:
        rows = connection.execute('SELECT job_id, sha256 FROM artifacts WHERE visible ORDER BY job_id, "index"')
        visible: dict[str, list[str]] = {}
        for job_id, sha256 in rows.fetchall():
            visible.setdefault(job_id, []).append(sha256)
    promised = {job: list(ledger.pictures(job) or ()) for job in ledger.facts}
    wrong = sum(visible.get(job, []) != pictures for job, pictures in promised.items())
    wrong += sum(len(pictures) not in (0, images) for pictures in promised.values())
    return wrong + await broken_objects(store, {sha for pictures in visible.values() for sha in pictures})


async def broken_objects(store: ObjectStore, hashes: set[str]) -> int:
    """Pictures that are missing or are not what their name says."""
    gate = asyncio.Semaphore(8)

    async def broken(sha256: str) -> bool:
        async with gate:
            try:
                return sha256_of(await store.get(object_key(sha256))) != sha256
            except Exception:
                return True

    return sum(await asyncio.gather(*(broken(sha256) for sha256 in hashes)))


async def orphans(ledger: Ledger, settings: CommonSettings, store: ObjectStore) -> tuple[int, int]:
    """Objects that no succeeded job shows, before and after a collection without grace (everything is over)."""
    shown = {object_key(sha) for job in ledger.facts for sha in ledger.pictures(job) or ()}
    before = sum(found.key not in shown for found in await store.listed())
    await collect(settings.database_url.get_secret_value(), ledger.bus, store, grace_seconds=0)
    return before, sum(found.key not in shown for found in await store.listed())


def streams(ledger: Ledger, readers: list[Seen]) -> tuple[int, int, int]:
    """Gaps in facts, gaps in steps, and repeats, over all readers: everything once and in order.

    An event's id is "<jobs sequence>-<steps sequence>": exactly one of the two moves with each event.
    """
    fact_gaps = step_gaps = repeats = 0
    for reader in readers:
        facts, steps, last = [], [], (0, 0)
        for _, event_id in reader.events:
            jobs, _, steps_place = event_id.partition("-")
            place = (int(jobs), int(steps_place))
            facts += [place[0]] if place[0] != last[0] else []
            steps += [place[1]] if place[1] != last[1] else []
            repeats += place == last
            last = place
        wanted = {sequence for sequence, _ in ledger.facts[reader.job_id]}
        seen = set(steps)
        repeats += len(facts) - len(set(facts)) + len(steps) - len(seen)
        fact_gaps += len(wanted - set(facts)) + (facts != sorted(facts))
        missing = [step for step in ledger.steps[reader.job_id] if step <= max(seen, default=0) and step not in seen]
        step_gaps += len(missing) + (steps != sorted(steps))
    return fact_gaps, step_gaps, repeats


def print_table(lines: list[Line], seconds: float) -> bool:
    """Print it; True if every line holds."""
    for line in lines:
        mark = "  " if line.wanted is None else ("ok" if line.holds else "NO")
        wanted = "" if line.holds else f"   (must be {line.wanted})"
        print(f"{mark}  {line.what:<44} {line.found}{wanted}")
    print(f"    checked in {seconds:.1f} s")
    return all(line.holds for line in lines)


def clock() -> float:
    """Seconds, for durations."""
    return time.monotonic()
