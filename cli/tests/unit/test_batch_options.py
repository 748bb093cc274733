"""The options of a batch: what of a request stays, what becomes a template, what the grid says."""

import pytest

from dreamforge.cli.batches.options import batch_of, grid_of
from dreamforge.cli.batches.watch import BatchView
from dreamforge.cli.failure import CommandError
from dreamforge.contracts.events import Decision, JobAssigned, JobRequested, JobStarted, JobSucceeded
from dreamforge.contracts.request.batch import BatchPlace
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.runtime import clock

FIELDS = {"prompt": "a {b|c}", "negative_prompt": "", "images": 1, "steps": 5, "priority": 5}

DECISION = Decision(waited_seconds=0, effective_priority=5, queue_length=1, required_bytes=1, candidates=())


def test_prompts_are_templates_only_where_that_is_asked_for() -> None:
    literal = batch_of(FIELDS, {"guidance_scale": [3, 7]}, template=False, samples=None, seed=None)
    assert literal == {"request": FIELDS, "grid": {"guidance_scale": [3, 7]}}
    templates = batch_of(FIELDS, {}, template=True, samples=3, seed=8)
    assert (templates["template"], "prompt" in templates["request"]) == ({"prompt": "a {b|c}"}, False)
    assert (templates["samples"], templates["template_seed"]) == (3, 8)


def test_the_grid_wins_over_the_default_of_an_option_and_not_over_what_was_given() -> None:
    body = batch_of(FIELDS, {"images": [1, 2], "steps": [1, 2]}, template=False, samples=None, seed=None)
    assert "images" not in body["request"]
    assert body["request"]["steps"] == 5  # given twice, which the gateway refuses by name


@pytest.mark.parametrize("text", ["steps", "speed=1", "steps=", "steps=a", "steps=[1", "=3"])
def test_a_wrong_grid_shows_the_form(text: str) -> None:
    with pytest.raises(CommandError):
        grid_of([text])


def test_a_batch_has_ended_when_its_jobs_have() -> None:
    request = RenderRequest(
        model_id="m", preset="p", prompt="a", width_px=64, height_px=64, steps=4, guidance_scale=1, seed=1
    )
    batch, now = BatchView(2), clock.now()
    for number, job_id in enumerate(("a", "b")):
        place = BatchPlace(batch_id="B", index=number, jobs=2, chosen={"steps": number})
        batch.fold(job_id, JobRequested(at=now, tenant="t", request=request, batch=place))
    assert (batch.steps, batch.succeeded, batch.chosen["b"]) == ((0, 8), 0, {"steps": 1})
    given = {"at": now, "attempt": 1, "runner_id": "r", "instance_id": "i"}
    batch.fold("a", JobAssigned(**given, preset="p", estimated_vram_bytes=1, decision=DECISION))
    batch.fold("a", JobStarted(**given))
    batch.fold("a", JobSucceeded(at=now, attempt=1, artifacts=(), render_seconds=1))
    assert (batch.steps, batch.succeeded, len(batch.ended)) == ((4, 8), 1, 1)
