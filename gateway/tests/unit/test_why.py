"""Every state of a job has its sentence."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dreamforge.contracts.events import Candidate
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.replies import JobSummary, Links, Waiting
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gateway.read.why import summary

T0 = datetime(2026, 11, 23, tzinfo=UTC)
REQUEST = RenderRequest(
    model_id="m", preset="p", prompt="a", width_px=64, height_px=64, steps=4, guidance_scale=1, seed=1
)


def job(status: Status, **changes: Any) -> JobSummary:
    fields: dict[str, Any] = dict.fromkeys(JobSummary.model_fields) | {
        "job_id": "J",
        "version": 1,
        "tenant": "t",
        "status": status,
        "priority": 5,
        "request": REQUEST,
        "attempt": 1,
        "runner_id": "r1",
        "cancel_requested": False,
        "requested_at": T0,
        "finished_at": T0 + timedelta(seconds=3),
        "links": Links.of("J"),
    }
    return JobSummary.model_validate(fields | changes)


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        (job(Status.ASSIGNED), "given to r1, which has not started"),
        (job(Status.RUNNING, cancel_requested=True), "asked to stop, and will"),
        (job(Status.SUCCEEDED), "succeeded on r1 with attempt 1, 3.0 s after"),
        (job(Status.FAILED, attempt=4, failure_reason="stalled", failure_message="no step"), "stalled: no step"),
        (job(Status.CANCELLED), "cancelled on request, 3.0 s after"),
    ],
    ids=lambda value: value.status if isinstance(value, JobSummary) else "",
)
def test_every_placed_or_finished_job_has_a_sentence(subject: JobSummary, words: str) -> None:
    assert words in summary(subject, None, T0)


def test_a_backoff_is_counted_down() -> None:
    waiting = Waiting(ahead=0, retry_at=T0 + timedelta(seconds=4), candidates=())
    text = summary(job(Status.QUEUED, failure_reason="stalled"), waiting, T0)
    assert text == "Attempt 1 failed after stalled; the next one may start in 4.0 s."


def test_a_job_that_no_runner_can_take_names_each_reason() -> None:
    candidates = (
        Candidate(runner_id="a", refused="busy: all 1 slots taken"),
        Candidate(runner_id="b", refused="does not have model 'm'"),
    )
    text = summary(job(Status.QUEUED), Waiting(ahead=2, candidates=candidates), T0)
    assert "a (busy: all 1 slots taken), b (does not have model 'm')" in text
    assert text.endswith("2 waiting jobs before it.")
