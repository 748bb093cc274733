"""What a job waits for, in a sentence with the times."""

from datetime import UTC, datetime

from dreamforge.contracts.events import Candidate, Decision, EstimateSource
from dreamforge.contracts.forecasts import Forecast, SecondsRange
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.replies import JobSummary, Waiting
from dreamforge.gateway.read import why

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
JOB = JobSummary.model_construct(status=Status.QUEUED, tenant="t", attempt=0, failure_reason=None)
FORECAST = Forecast(
    runner_id="fast",
    load_seconds=0,
    starts_in_seconds=SecondsRange(p50=5, p90=8),
    ends_in_seconds=SecondsRange(p50=15, p90=24),
    ahead=0,
    estimate=EstimateSource.MEASURED,
)
SLOW = Candidate(runner_id="slow", score=10.0)
FAST = Candidate(runner_id="fast", refused="busy: all 1 slots taken")


def told(candidates: tuple[Candidate, ...], **changes: object) -> str:
    forecast = FORECAST.model_copy(update=changes)
    return why.summary(JOB, Waiting(ahead=0, candidates=candidates, forecast=forecast), NOON)


def test_a_job_that_waits_for_a_faster_runner_says_so_with_both_times() -> None:
    assert told((SLOW, FAST), idle_runner_id="slow", idle_ends_in_seconds=95) == (
        "It waits for fast, which is expected to end it in 15 s; "
        "slow could start it now and would end it in 1 min 35 s. It is next in the queue."
    )


def test_a_job_that_no_runner_can_take_now_says_when_one_can() -> None:
    assert told((FAST,)).endswith("It is expected to start on fast in 5.0 s and to end in 15 s.")


def test_the_rungs_that_a_job_will_begin_with_are_named_with_the_reason() -> None:
    text = told((FAST,), rungs=("offload_model", "tiled_decode"))
    assert text.endswith(
        "It begins there with offload model, tiled decode, since a render of this size ran out of memory without."
    )


def test_a_decision_says_what_was_expected_of_each_runner() -> None:
    slow = SLOW.model_copy(update={"ends_in_seconds": 40.0})
    decision = Decision(
        waited_seconds=1.0,
        effective_priority=5,
        queue_length=1,
        required_bytes=0,
        candidates=(Candidate(runner_id="fast", score=10.0, ends_in_seconds=15.0), slow),
        ends_in_seconds=15.0,
    )
    assert why.decision_summary(decision, "fast") == (
        "After 1.0 s in a queue of 1 job it was given to fast. It was expected to end 15 s later. "
        "It fitted less well on slow (would have ended it 40 s later)."
    )
