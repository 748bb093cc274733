"""The fold of job events into rows, without a database."""

from datetime import UTC, datetime, timedelta

from dreamforge.contracts.events import (
    ArtifactErased,
    ArtifactStored,
    AttemptFailed,
    CancelRequested,
    Decision,
    ErasureRequested,
    ErasureUndone,
    FailureReason,
    JobAssigned,
    JobCancelled,
    JobEvent,
    JobRequested,
    JobStarted,
    JobSucceeded,
)
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.jobs.state import INITIAL, JobState
from dreamforge.contracts.jobs.state import fold as fold_state
from dreamforge.contracts.log.envelope import Recorded
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.projector.folding.job import JobRow
from dreamforge.projector.folding.project import Entry, JobChanges, project_jobs

T0 = datetime(2026, 11, 23, tzinfo=UTC)
REQUEST = RenderRequest(
    model_id="m", preset="p", prompt="a cat", width_px=64, height_px=64, steps=4, guidance_scale=1, seed=1
)
DECISION = Decision(waited_seconds=0, effective_priority=1, queue_length=0, required_bytes=0, candidates=())
REQUESTED = JobRequested(at=T0, tenant="t", request=REQUEST)
STARTED = JobStarted(at=T0, attempt=1, runner_id="r1", instance_id="i1")
ARTIFACT = ArtifactStored(
    at=T0, attempt=1, index=0, sha256="a" * 64, size_bytes=1, content_type="image/png", width_px=8,
    height_px=8, seed=1, recipe={},
)  # fmt: skip
SUCCEEDED = JobSucceeded(at=T0, attempt=1, artifacts=("a" * 64,), render_seconds=1)
CANCELLED = JobCancelled(at=T0 + timedelta(seconds=9), attempt=1, stage="running")


def assigned(attempt: int = 1, at: datetime = T0) -> JobAssigned:
    return JobAssigned(
        at=at, attempt=attempt, runner_id="r1", instance_id="i1", preset="p", estimated_vram_bytes=1, decision=DECISION
    )


def entries(*events: JobEvent, first: int = 1) -> list[Entry]:
    return [
        Entry(Recorded(event, "J", sequence, f"e{sequence}"), event.model_dump_json())
        for sequence, event in enumerate(events, first)
    ]


def fold(known: dict[str, JobRow], events: list[Entry]) -> JobChanges:
    return project_jobs(known, events)


def test_an_event_at_or_before_a_jobs_version_changes_nothing() -> None:
    first = fold({}, entries(REQUESTED, assigned(), STARTED))

    again = fold(first.jobs, entries(REQUESTED, assigned(), STARTED))
    assert again == JobChanges()
    twice = entries(REQUESTED, assigned())
    assert [row[0] for row in fold({}, twice + twice).events] == [1, 2]


def test_folding_does_not_change_the_given_jobs() -> None:
    known = fold({}, entries(REQUESTED, assigned())).jobs
    before = known["J"].working_copy()

    after = fold(known, entries(STARTED, CANCELLED, first=3)).jobs["J"]
    assert known["J"] == before
    assert after.state.status is Status.CANCELLED
    assert after.current is not None
    assert after.current.status == "cancelled"


def test_events_that_overwrite_one_state_give_what_the_pure_fold_gives() -> None:
    undone = ErasureRequested(at=T0, erase_at=T0, number=1), ErasureUndone(at=T0, number=1)
    erased = ArtifactErased(at=T0, attempt=1, index=0)
    events = (REQUESTED, assigned(), STARTED, ARTIFACT, SUCCEEDED, *undone, erased)

    assert fold({}, entries(*events)).jobs["J"].state == fold_state(events)
    assert JobState() == INITIAL, "the state that every job begins with is never overwritten"


def test_an_event_of_a_job_that_was_never_requested_is_refused_and_the_rest_is_folded() -> None:
    changes = fold({}, entries(STARTED, REQUESTED, assigned()))

    assert [refused.sequence for refused in changes.refused] == [1]
    assert "no request of the job" in changes.refused[0].reason
    assert (changes.jobs["J"].version, changes.jobs["J"].state.status) == (3, Status.ASSIGNED)


def test_events_after_the_end_are_refused_and_change_nothing() -> None:
    over = fold({}, entries(REQUESTED, assigned(), STARTED, ARTIFACT, SUCCEEDED)).jobs
    late = fold(over, entries(ARTIFACT, CANCELLED, assigned(2), first=6))

    assert [each.sequence for each in late.refused] == [6, 7, 8]
    assert {each.reason.partition(": ")[2] for each in late.refused} == {"the job is over: it has succeeded"}
    assert late == JobChanges(refused=late.refused)


def test_images_are_visible_as_soon_as_they_are_stored() -> None:
    changes = fold({}, entries(REQUESTED, assigned(), STARTED, ARTIFACT))
    assert [row[4] for row in changes.artifact_rows()] == [True]

    assert fold(changes.jobs, entries(CANCELLED, first=5)).artifact_rows() == []
    together = fold({}, entries(REQUESTED, assigned(), STARTED, ARTIFACT, SUCCEEDED))
    assert [row[4] for row in together.artifact_rows()] == [True]


def test_only_images_of_retries_can_replace_earlier_ones() -> None:
    lost = AttemptFailed(at=T0, attempt=1, runner_id="r1", reason=FailureReason.RUNNER_LOST, retryable=True, message="")
    again, restarted = (event.model_copy(update={"attempt": 2}) for event in (ARTIFACT, STARTED))
    assert fold({}, entries(REQUESTED, assigned(), STARTED, ARTIFACT)).stored_by_retries == {}
    changes = fold({}, entries(REQUESTED, assigned(), STARTED, lost, assigned(2), restarted, again))
    assert list(changes.stored_by_retries) == ["J"]


def test_a_batch_gives_each_row_once_however_often_it_changed() -> None:
    changes = fold({}, entries(REQUESTED, assigned(), STARTED, CancelRequested(at=T0, attempt=1), CANCELLED))

    assert len(changes.job_rows()) == 1
    assert len(changes.attempt_rows()) == 1
    assert len(changes.events) == 5
    assert changes.ended == ["J"]
