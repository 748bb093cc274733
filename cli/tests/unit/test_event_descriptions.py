"""Events are described in order of time, and the steps of an image are one line."""

from datetime import UTC, datetime, timedelta

from dreamforge.cli.jobs.event_descriptions import describe_event, event_lines
from dreamforge.contracts.events import (
    ArtifactStored,
    Candidate,
    Decision,
    JobAssigned,
    JobHeld,
    JobPriorityChanged,
    JobReleased,
    JobRequested,
    StepProgressed,
)
from dreamforge.contracts.log.envelope import Recorded
from dreamforge.contracts.request.render_request import RenderRequest

START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
REQUEST = RenderRequest(
    model_id="tiny", preset="p", prompt="two\nlines", width_px=64, height_px=32, steps=3, guidance_scale=1, seed=9
)


def after(milliseconds: int) -> datetime:
    return START + timedelta(milliseconds=milliseconds)


def recorded(event: JobRequested | JobAssigned | StepProgressed | ArtifactStored, sequence: int) -> Recorded:
    return Recorded(event, "J", sequence, "id", "/dreamforge/scheduler/1")


def step(number: int, milliseconds: int) -> Recorded:
    event = StepProgressed(
        at=after(milliseconds),
        attempt=1,
        image_index=0,
        images=1,
        step=number,
        steps=3,
        elapsed_seconds=number / 2,
        eta_seconds=0,
    )
    return recorded(event, number)


def test_lines_are_in_order_of_time_and_count_from_the_first() -> None:
    asked = recorded(JobRequested(at=START, tenant="t", request=REQUEST), 7)
    lines = event_lines([step(1, 300), step(3, 500), asked, step(2, 400)])
    assert [(line.event, line.after_seconds) for line in lines] == [("requested", 0.0), ("step", 0.5)]
    assert lines[0].time == "12:00:00.000"
    assert lines[0].by == "scheduler"
    assert lines[1].description == "step 3 of 3, 1.50 s so far"


def test_a_prompt_stays_on_its_line() -> None:
    assert describe_event(JobRequested(at=START, tenant="t", request=REQUEST)).startswith(
        '"two lines" by tiny/p: 64x32'
    )


def test_an_assignment_is_described_with_its_reasons() -> None:
    candidates = (
        Candidate(runner_id="a", refused="busy"),
        Candidate(runner_id="b", score=1, reasons=("model is loaded", "1 of 1 slots free")),
    )
    decision = Decision(waited_seconds=0, effective_priority=5, queue_length=1, required_bytes=1, candidates=candidates)
    event = JobAssigned(
        at=START,
        attempt=1,
        runner_id="b",
        instance_id="i",
        preset="p",
        estimated_vram_bytes=1,
        decision=decision,
    )
    assert describe_event(event) == "attempt 1 to b: model is loaded, 1 of 1 slots free"


def test_holding_releasing_and_a_new_priority_are_described() -> None:
    changed = JobPriorityChanged(at=START, priority=9, requested_by="ann")
    assert describe_event(changed) == "to 9 by ann"
    assert [describe_event(kind(at=START, requested_by="ann")) for kind in (JobHeld, JobReleased)] == ["by ann"] * 2


def test_no_events_are_no_lines() -> None:
    assert event_lines([]) == []
