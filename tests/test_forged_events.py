"""Whatever is forged between the events of a job, every fold of it is as if the forged ones were not in the log."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dreamforge.cli.jobs.progress import JobView
from dreamforge.cli.jobs.progress import fold as fold_view
from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.events import (
    ArtifactStored,
    Decision,
    FailureReason,
    JobEvent,
    StepProgressed,
)
from dreamforge.contracts.jobs import decisions
from dreamforge.contracts.jobs.decisions import decide
from dreamforge.contracts.jobs.owner import ChangePriority, HoldJob, ReleaseJob
from dreamforge.contracts.jobs.refusal import refusal
from dreamforge.contracts.jobs.retry_policy import RetryPolicy
from dreamforge.contracts.jobs.state import INITIAL, JobState, evolve
from dreamforge.contracts.log.envelope import Recorded, seal
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gateway.events.sse import Acceptance, StreamCursor, sse_event_of
from dreamforge.gateway.http.cursor import EventCursor
from dreamforge.projector.folding.project import Entry, project_jobs
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.testing.forgeries import INTRUDER, forgeries
from dreamforge.scheduler.planning.snapshot import Snapshot

T0 = datetime(2026, 11, 26, tzinfo=UTC)
REQUEST = RenderRequest(
    model_id="m", preset="p", prompt="a cat", width_px=8, height_px=8, steps=1, guidance_scale=1, seed=1, images=2
)
DECISION = Decision(waited_seconds=0, effective_priority=5, queue_length=1, required_bytes=1, candidates=())
POLICY = RetryPolicy(max_attempts=3, base_seconds=1)
KINDS = ("assign", "start", "warn", "store", "finish", "fail", "lose", "cancel", "confirm", "hold", "release", "prio")
Log = list[tuple[int, JobEvent]]


def command(kind: str, state: JobState, now: datetime, number: int) -> Any:
    """What a writer may ask now, or what it would be refused."""
    attempt = state.attempt
    image = ArtifactStored(
        at=now, attempt=max(1, attempt), index=number % 2, sha256=f"{number:064x}", size_bytes=1,
        content_type="image/png", width_px=8, height_px=8, seed=1, recipe={},
    )  # fmt: skip
    match kind:
        case "assign":
            return decisions.AssignJob(now, attempt + 1, f"r{number}", f"i{number}", 1, DECISION)
        case "start":
            return decisions.StartAttempt(now, attempt, state.runner_id, state.instance_id)
        case "warn":
            return decisions.WarnAttempt(now, attempt, ())
        case "store":
            return decisions.StoreImages(now, attempt, (image,))
        case "finish":
            other = image.model_copy(update={"index": 1 - image.index})
            return decisions.FinishAttempt(now, attempt, (image, other), 1.0)
        case "fail":
            reason, runner = FailureReason.INTERNAL, state.runner_id or None
            return decisions.FailAttempt(now, attempt, reason, number > 0, "m", POLICY, written_by=runner)
        case "lose":
            return decisions.FailAttempt(now, attempt, FailureReason.RUNNER_LOST, True, "m", POLICY)
        case "cancel":
            return decisions.RequestCancel(now)
        case "confirm":
            return decisions.ConfirmCancel(now, attempt)
        case "hold":
            return HoldJob(now)
        case "release":
            return ReleaseJob(now)
    return ChangePriority(now, number)


@st.composite
def logs(draw: st.DrawFn) -> tuple[Log, frozenset[int]]:
    """The messages of one job, numbered, and which of them are honest."""
    state, now = INITIAL, T0
    log: Log = []
    honest: set[int] = set()

    def forge() -> None:
        for _ in range(draw(st.integers(0, 2))):
            log.append((len(log) + 1, draw(st.sampled_from(forgeries(state, T0)))))

    usual = st.sampled_from(("assign", "start", "store"))  # or most stories would end before they begin
    asked = [("request", 0), *draw(st.lists(st.tuples(usual | st.sampled_from(KINDS), st.integers(0, 3)), max_size=15))]
    for kind, number in asked:
        now += timedelta(seconds=3)
        forge()
        asks = (
            decisions.RequestJob("J", now, "t", 5, REQUEST) if kind == "request" else command(kind, state, now, number)
        )
        try:
            events = decide(state, asks)
        except ForgeError:
            continue
        for event in events:
            assert refusal(state, event) is None, "what is decided is never refused"
            state = evolve(state, event)
            log.append((len(log) + 1, event))
            honest.add(len(log))
    forge()
    return log, frozenset(honest)


def message(sequence: int, event: JobEvent) -> LogMessage:
    sealed = seal(event, entity_id="J", event_id=f"e{sequence}", source="/test")
    return LogMessage(sealed.subject, sealed.headers, sealed.data, sequence)


def aggregate(log: Log) -> JobState:
    state = INITIAL
    for _, event in log:
        state = evolve(state, event)
    return state


def scheduled(log: Log) -> Any:
    """What the scheduler has of the job, but for its version: that counts every message."""
    snapshot = Snapshot()
    for sequence, event in log:
        put = message(sequence, event)
        snapshot.apply(put.subject, put.headers, put.data, sequence)
    job = snapshot.jobs.get("J")
    return None if job is None else (job.stage, job.status, job.attempt, job.runner_id, job.retry_at, job.priority)


def tables(log: Log) -> tuple[Any, ...]:
    entries = [Entry(Recorded(event, "J", sequence, f"e{sequence}"), "{}") for sequence, event in log]
    found = project_jobs({}, entries)
    return found.job_rows(), found.attempt_rows(), found.artifact_rows(), found.events, found.ended


def stream(log: Log) -> list[bytes]:
    found = [event for place in log if (event := sse_event_of(message(*place))) is not None]
    return StreamCursor(EventCursor(0, 0)).frames(Acceptance().passed(found))


def view(log: Log) -> JobView:
    found = JobView()
    for _, event in log:
        found = fold_view(found, event)
    return found


@given(logs())
@settings(max_examples=60, deadline=None)
def test_every_fold_is_as_if_forged_events_were_not_there(forged: tuple[Log, frozenset[int]]) -> None:
    log, honest = forged
    without = [place for place in log if place[0] in honest]
    for fold in (aggregate, scheduled, tables, stream, view):
        assert fold(log) == fold(without), fold.__name__


@given(logs())
@settings(max_examples=15, deadline=None)
def test_the_tables_say_why_each_forged_event_changes_nothing(forged: tuple[Log, frozenset[int]]) -> None:
    log, honest = forged
    entries = [Entry(Recorded(event, "J", sequence, f"e{sequence}"), "{}") for sequence, event in log]
    refused = project_jobs({}, entries).refused
    assert [each.sequence for each in refused] == [sequence for sequence, _ in log if sequence not in honest]
    assert all(" is refused: " in each.reason for each in refused)


@given(logs(), st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_no_step_of_a_foreign_runner_is_sent(forged: tuple[Log, frozenset[int]], attempt: int) -> None:
    log, _ = forged
    step = StepProgressed(
        at=T0, attempt=attempt, image_index=0, images=1, step=1, steps=1, elapsed_seconds=0, eta_seconds=0,
        written_by=INTRUDER,
    )  # fmt: skip
    found = sse_event_of(message(99, step))
    assert found is not None
    acceptance = Acceptance()
    for place in log:
        told = [found, *([event] if (event := sse_event_of(message(*place))) else [])]
        assert not any(each.is_step for each in acceptance.passed(told))
