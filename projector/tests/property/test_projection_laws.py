"""The laws of the projection, on real Postgres: whatever the history and however it is cut, the rows equal evolve."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import psycopg
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from dreamforge.contracts.errors import Conflict, NotFound
from dreamforge.contracts.events import (
    TERMINAL_EVENTS,
    ArtifactStored,
    AttemptFailed,
    Decision,
    Event,
    FailureReason,
    JobAssigned,
    JobErased,
    JobRequested,
    JobSucceeded,
    StepProgressed,
)
from dreamforge.contracts.jobs.decisions import (
    AssignJob,
    Command,
    ConfirmCancel,
    FailAttempt,
    FinishAttempt,
    RequestCancel,
    RequestJob,
    StartAttempt,
    StoreImages,
    decide,
)
from dreamforge.contracts.jobs.erasure import EraseArtifact, EraseJob, RequestErasure, UndoErasure
from dreamforge.contracts.jobs.retry_policy import RetryPolicy
from dreamforge.contracts.jobs.state import INITIAL, JobState, evolve
from dreamforge.contracts.log.envelope import seal
from dreamforge.contracts.request.batch import BatchPlace, BatchTemplate
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.projector.folding.decode import Decoded, decode
from dreamforge.projector.parking import park_nothing
from dreamforge.projector.writing.folds import JobsFold, StepsFold
from dreamforge.projector.writing.session import Session
from dreamforge.projector.writing.stream_projection import StreamProjection
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.testing.forgeries import forgeries

T0 = datetime(2026, 11, 23, tzinfo=UTC)
ASSIGNMENT = """INSERT INTO attempts (job_id, attempt, runner_id, instance_id, status, estimated_vram_bytes, decision,
assigned_at) VALUES (%s, 1, 'r1', 'i1', 'running', 1, '{}', now())"""
DECISION = Decision(waited_seconds=0, effective_priority=5, queue_length=1, required_bytes=1, candidates=())
JOBS = ("a", "b", "c")
TABLES = {
    "jobs": "job_id",
    "batches": "batch_id",
    "job_inputs": "job_id",
    "attempts": "job_id, attempt",
    "artifacts": "artifact_id",
    "events": "sequence",
}
Log = list[tuple[str, Event]]
Places = list[tuple[int, str, Event]]
ON_POSTGRES = settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# No NUL and no lone surrogates here: Postgres cannot store them, and such events are parked (integration tests).
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
times = st.integers(0, 10_000).map(lambda seconds: T0 + timedelta(seconds=seconds))
attempts = st.integers(1, 3)
IMAGES = 2
instances = st.sampled_from(["i1", "i2"])


@st.composite
def stored(draw: st.DrawFn) -> StoreImages | FinishAttempt:
    """Some images of an attempt, with or without its finish."""
    now, attempt = draw(times), draw(attempts)
    artifacts = tuple(
        ArtifactStored(
            at=now,
            attempt=attempt,
            index=index,
            sha256=f"{index:064x}",
            size_bytes=1,
            content_type="image/png",
            width_px=8,
            height_px=8,
            seed=1,
            recipe={draw(texts): draw(texts)},
        )
        for index in sorted(draw(st.sets(st.integers(0, IMAGES - 1))))
    )
    return FinishAttempt(now, attempt, artifacts, 1.5) if draw(st.booleans()) else StoreImages(now, attempt, artifacts)


def requests(job_id: str) -> st.SearchStrategy[RequestJob]:
    request = RenderRequest(
        model_id="m", preset="p", prompt="", width_px=64, height_px=64, steps=4, guidance_scale=1, seed=1,
        images=IMAGES,
    )  # fmt: skip
    return st.builds(
        RequestJob,
        job_id=st.just(job_id),
        now=times,
        tenant=st.just("t"),
        priority=st.integers(0, 9),
        request=texts.map(lambda prompt: request.model_copy(update={"prompt": prompt})),
        idempotency_key=st.none() | texts,
        batch=st.none() | places(),
    )


@st.composite
def places(draw: st.DrawFn) -> BatchPlace:
    """A place in a batch; also two jobs that both say that they are its first."""
    index = draw(st.integers(0, 1))
    template = BatchTemplate(request={"seed": 1}, template={"prompt": draw(texts)}) if index == 0 else None
    return BatchPlace(batch_id="B", index=index, jobs=2, chosen={"prompt": draw(texts)}, batch=template)


def commands(job_id: str) -> st.SearchStrategy[Command]:
    assign = st.builds(AssignJob, times, attempts, st.just("r1"), instances, st.just(1), st.just(DECISION))
    start = st.builds(StartAttempt, times, attempts, st.just("r1"), instances)
    policies = st.builds(RetryPolicy, max_attempts=st.integers(1, 3), base_seconds=st.just(0.0))
    fail = st.builds(
        FailAttempt, times, attempts, st.sampled_from(FailureReason), st.booleans(), texts, policy=policies
    )
    cancel = st.builds(RequestCancel, now=times)
    return st.one_of(
        requests(job_id),
        assign,
        assign,
        start,
        start,
        stored(),
        fail,
        cancel,
        st.builds(ConfirmCancel, times, attempts),
    )


def erasures(job_id: str) -> st.SearchStrategy[Command]:
    return st.one_of(
        commands(job_id),
        st.builds(RequestErasure, times, times),
        st.builds(UndoErasure, times),
        st.builds(EraseJob, st.just(T0 + timedelta(days=1))),
        st.builds(EraseArtifact, times, attempts, st.integers(0, IMAGES - 1)),
    )


@st.composite
def logs(draw: st.DrawFn, kinds: Callable[[str], st.SearchStrategy[Command]] = commands) -> Log:
    """What the log holds after writers of three jobs have raced: only what was decided, in one order."""
    states = dict.fromkeys(JOBS, INITIAL)
    log: Log = []
    racing = st.one_of([kinds(job_id).map(lambda c, j=job_id: (j, c)) for job_id in JOBS])  # type: ignore[misc]
    opening = [(job_id, draw(requests(job_id))) for job_id in JOBS]
    for job_id, command in [*opening, *draw(st.lists(racing, max_size=60))]:
        try:
            events = decide(states[job_id], command)
        except (Conflict, NotFound):
            continue
        if isinstance(command, StoreImages):
            events = command.artifacts  # in the log of an older version a later attempt stores an index again
        for event in events:
            states[job_id] = evolve(states[job_id], event)
            log.append((job_id, event))
    return log


@st.composite
def logs_with_forgeries(draw: st.DrawFn) -> tuple[Places, frozenset[int]]:
    """A log with forged events in it, by sequence; and where the honest ones are."""
    states = dict.fromkeys(JOBS, INITIAL)
    places: Places = []
    honest: set[int] = set()
    for job_id, event in draw(logs()):
        for victim in draw(st.lists(st.sampled_from(JOBS), max_size=2)):
            places.append((len(places) + 1, victim, draw(st.sampled_from(forgeries(states[victim], T0)))))
        states[job_id] = evolve(states[job_id], event)
        places.append((len(places) + 1, job_id, event))
        honest.add(len(places))
    return places, frozenset(honest)


def messages_of(log: Log) -> list[Decoded]:
    return messages_at([(sequence, entity_id, event) for sequence, (entity_id, event) in enumerate(log, 1)])


def messages_at(places: Places) -> list[Decoded]:
    messages = []
    for sequence, entity_id, event in places:
        sealed = seal(event, entity_id=entity_id, event_id=f"e{sequence}", source="/test")
        messages.append(LogMessage(sealed.subject, sealed.headers, sealed.data, sequence))
    return decode(messages)


def cut(messages: Sequence[Decoded], places: list[int]) -> list[Sequence[Decoded]]:
    borders = sorted({0, len(messages), *(place % (len(messages) + 1) for place in places)})
    return [messages[a:b] for a, b in pairwise(borders)]


async def empty(connection: "psycopg.AsyncConnection[Any]") -> None:
    """DELETE, not TRUNCATE: ten times as fast on tables this small."""
    await connection.execute("; ".join(f"DELETE FROM {table}" for table in (*TABLES, "steps", "checkpoints")).encode())


async def fold_all(url: str, batches: list[Sequence[Decoded]], *, restart_every: int = 1000) -> dict[str, list[Any]]:
    """The tables after these batches, with a new session (a restart of the projector) every few of them."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True, row_factory=dict_row) as reader:
        await empty(reader)
        for start in range(0, len(batches), restart_every):
            async with Session.open(url, name="test") as session:
                await session.prepare()
                projection = StreamProjection(
                    session,
                    JobsFold(),
                    None,  # type: ignore[arg-type]
                    park_nothing,
                    1000,
                    sequence=(await session.checkpoint("JOBS", "log")).sequence,
                )
                for batch in batches[start : start + restart_every]:
                    await projection.apply(batch)
        return {
            table: await (await reader.execute(f"SELECT * FROM {table} ORDER BY {key}".encode())).fetchall()
            for table, key in TABLES.items()
        }


def place_of(event: Event) -> BatchPlace | None:
    return event.batch if isinstance(event, JobRequested) else None


def state_row(job_id: str, state: JobState) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "status": state.status,
        "tenant": state.tenant,
        "priority": state.priority,
        "request": state.request.model_dump() if state.request else None,
        "attempt": state.attempt,
        "runner_id": state.runner_id or None,
        "cancel_requested": state.cancel_requested,
        "failure_reason": state.failure,
        "retry_at": state.retry_at,
        "requested_at": state.requested_at,
        "started_at": state.started_at,
    }


@given(logs())
@ON_POSTGRES
def test_the_rows_equal_evolve_and_every_attempt_has_its_row_and_its_end(database_url: str, log: Log) -> None:
    rows = asyncio.run(fold_all(database_url, [messages_of(log)]))
    rows_equal_evolve(rows, log)
    every_attempt_has_its_row_and_its_end(rows["attempts"], log)


def rows_equal_evolve(rows: dict[str, list[Any]], log: Log) -> None:
    states, last = dict.fromkeys(JOBS, INITIAL), dict.fromkeys(JOBS, 0)
    visible: set[str] = set()
    for sequence, (job_id, event) in enumerate(log, 1):
        states[job_id] = evolve(states[job_id], event)
        last[job_id] = sequence
    for job_id, state in states.items():
        visible |= {f"{job_id}-{artifact.attempt}-{artifact.index}" for artifact in state.artifacts}
    expected = [state_row(job_id, states[job_id]) for job_id in JOBS]
    assert [{name: row[name] for name in expected[0]} for row in rows["jobs"]] == expected
    assert [row["version"] for row in rows["jobs"]] == list(last.values())
    ends = {job_id: event.at for job_id, event in log if isinstance(event, TERMINAL_EVENTS)}
    assert {row["job_id"]: row["finished_at"] for row in rows["jobs"] if row["finished_at"]} == ends
    assert {row["artifact_id"] for row in rows["artifacts"] if row["visible"]} == visible
    firsts = [sequence for sequence, (_, event) in enumerate(log, 1) if (place := place_of(event)) and place.batch]
    assert [row["sequence"] for row in rows["batches"]] == firsts[-1:]
    values = {job_id: place.chosen for job_id, event in log if (place := place_of(event))}
    assert {row["job_id"]: row["batch_values"] for row in rows["jobs"] if row["batch_id"]} == values
    assert [row["sequence"] for row in rows["events"]] == list(range(1, len(log) + 1))
    assert [row["payload"] for row in rows["events"]] == [event.model_dump(mode="json") for _, event in log]


def every_attempt_has_its_row_and_its_end(rows: list[Any], log: Log) -> None:
    status: dict[tuple[str, int], str] = {}
    for job_id, event in log:
        if isinstance(event, JobAssigned):
            status[job_id, event.attempt] = "assigned"
        key = (job_id, getattr(event, "attempt", 0))
        if isinstance(event, AttemptFailed):
            status[key] = "failed"
        elif isinstance(event, JobSucceeded):
            status[key] = "succeeded"
        elif event.TOKEN == "started":
            status[key] = "running"
        elif event.TOKEN == "cancelled" and status.get(key) in ("assigned", "running"):
            status[key] = "cancelled"
    assert {(row["job_id"], row["attempt"]): row["status"] for row in rows} == status
    for row in rows:
        assert (row["ended_at"] is None) == (row["status"] in ("assigned", "running"))


@given(logs(), st.lists(st.integers(0, 200), max_size=12), st.integers(1, 3), st.data())
@ON_POSTGRES
def test_any_batch_split_with_restarts_and_duplicates_gives_the_same_rows(
    database_url: str, log: Log, places: list[int], restart_every: int, data: st.DataObject
) -> None:
    messages = messages_of(log)
    whole = asyncio.run(fold_all(database_url, [messages]))
    batches = cut(messages, places)
    assert asyncio.run(fold_all(database_url, batches, restart_every=restart_every)) == whole

    repeated: list[Sequence[Decoded]] = []
    for batch in batches:
        again = data.draw(st.integers(0, batch[-1].message.sequence))
        repeated += [batch, messages[again : batch[-1].message.sequence]]
    assert asyncio.run(fold_all(database_url, repeated, restart_every=2)) == whole


@given(logs(erasures), st.lists(st.integers(0, 200), max_size=12), st.integers(1, 3), st.data())
@settings(ON_POSTGRES, max_examples=8)
def test_the_rows_are_the_same_whatever_was_removed_of_an_erased_job(
    database_url: str, log: Log, places: list[int], restart_every: int, data: st.DataObject
) -> None:
    # The id of a batch's first job follows from that of the batch: of two, the row of the one that is left would stay.
    assume(len({job_id for job_id, event in log if (place := place_of(event)) and place.batch}) <= 1)
    messages = messages_of(log)
    live = asyncio.run(fold_all(database_url, cut(messages, places), restart_every=restart_every))

    erased = {job_id: sequence for sequence, (job_id, event) in enumerate(log, 1) if isinstance(event, JobErased)}
    left = [
        message
        for message, (job_id, _) in zip(messages, log, strict=True)
        if message.message.sequence >= erased.get(job_id, 0) or data.draw(st.booleans())
    ]
    assert asyncio.run(fold_all(database_url, cut(left, places))) == live
    assert not {row["job_id"] for table in ("jobs", "attempts", "artifacts") for row in live[table]} & erased.keys()
    assert [row["sequence"] for row in live["events"] if row["job_id"] in erased] == sorted(erased.values())


@given(logs_with_forgeries(), st.lists(st.integers(0, 200), max_size=12), st.integers(1, 3))
@ON_POSTGRES
def test_forged_events_leave_no_row_wherever_they_are_and_however_the_log_is_cut(
    database_url: str, forged: tuple[Places, frozenset[int]], places: list[int], restart_every: int
) -> None:
    log, honest = forged
    without = asyncio.run(fold_all(database_url, [messages_at([place for place in log if place[0] in honest])]))

    cuts = cut(messages_at(log), places)
    assert asyncio.run(fold_all(database_url, cuts, restart_every=restart_every)) == without


@given(st.lists(st.tuples(st.sampled_from(JOBS), st.integers(1, 50)), min_size=1, max_size=40), st.data())
@ON_POSTGRES
def test_the_newest_step_of_the_runner_that_has_the_attempt_wins_whatever_the_batches(
    database_url: str, steps: list[tuple[str, int]], data: st.DataObject
) -> None:
    log: Log = [
        (job_id, StepProgressed(at=T0, attempt=1, image_index=0, images=1, step=step, steps=50, elapsed_seconds=0.5,
                                eta_seconds=1, written_by=runner_id))
        for job_id, step in steps
        for runner_id in ("intruder", "r1", "intruder")
    ]  # fmt: skip
    messages = messages_of(log)

    async def fold() -> dict[str, int]:
        async with Session.open(database_url, name="test") as session:
            await empty(session.connection)
            await session.prepare()
            await session.checkpoint("STEPS", "log")
            for job_id in JOBS:
                await session.connection.execute(ASSIGNMENT, (job_id,))
            projection = StreamProjection(session, StepsFold(), None, park_nothing, 1000)  # type: ignore[arg-type]
            for batch in cut(messages, data.draw(st.lists(st.integers(0, 100), max_size=5))):
                await projection.apply(batch)
            found = await (await session.connection.execute("SELECT job_id, step FROM steps")).fetchall()
            return {str(row[0]): int(str(row[1])) for row in found}

    assert asyncio.run(fold()) == dict(steps)
