"""Every kind of event can be told, in order, and steps do not drown the facts."""

from datetime import UTC, datetime, timedelta

from dreamforge.cli.jobs.story import in_words, tell
from dreamforge.contracts.events import ArtifactStored, Candidate, Decision, JobAssigned, JobRequested, StepProgressed
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


def test_a_story_is_in_order_of_time_and_counts_from_its_start() -> None:
    asked = recorded(JobRequested(at=START, tenant="t", request=REQUEST), 7)
    lines = tell([step(1, 300), step(3, 500), asked, step(2, 400)])
    assert [(line.event, line.after_seconds) for line in lines] == [("requested", 0.0), ("step", 0.5)]
    assert lines[0].time == "12:00:00.000"
    assert lines[0].by == "scheduler"
    assert lines[1].words == "step 3 of 3, 1.50 s so far"


def test_a_prompt_stays_on_its_line() -> None:
    assert in_words(JobRequested(at=START, tenant="t", request=REQUEST)).startswith('"two lines" by tiny/p: 64x32')


def test_an_assignment_says_why_it_went_there() -> None:
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
    assert in_words(event) == "attempt 1 to b: model is loaded, 1 of 1 slots free"


def test_no_events_are_no_story() -> None:
    assert tell([]) == []
