"""A repeat is recognised by its body or by what it resolved to, and nothing else is a repeat."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from dreamforge.contracts.errors import IdempotencyConflict
from dreamforge.contracts.events import JobRequested
from dreamforge.contracts.jobs.decisions import RequestJob, decide
from dreamforge.contracts.jobs.state import INITIAL, JobState, evolve
from dreamforge.contracts.request.render_request import Deadlines, RenderRequest

REQUEST = RenderRequest(
    model_id="m", preset="p", prompt="a", width_px=64, height_px=64, steps=4, guidance_scale=1, seed=1
)
OTHER = REQUEST.model_copy(update={"steps": 5})
COMMAND = RequestJob("J", datetime(2026, 11, 23, tzinfo=UTC), "t", 5, REQUEST, "k", "f1")


def made(command: RequestJob) -> JobState:
    (event,) = decide(INITIAL, command)
    return evolve(INITIAL, event)


def test_the_same_body_is_a_repeat_whatever_it_resolves_to_now() -> None:
    assert decide(made(COMMAND), replace(COMMAND, request=OTHER)) == ()


def test_the_same_resolved_request_is_a_repeat_however_it_was_written() -> None:
    assert decide(made(COMMAND), replace(COMMAND, fingerprint="f2")) == ()
    assert decide(made(replace(COMMAND, fingerprint=None)), replace(COMMAND, fingerprint=None)) == ()


@pytest.mark.parametrize("change", [{"request": OTHER}, {"priority": 9}, {"tenant": "u"}, {"deadlines": Deadlines()}])
def test_anything_else_is_not(change: dict[str, object]) -> None:
    with pytest.raises(IdempotencyConflict):
        decide(made(COMMAND), replace(COMMAND, fingerprint="f2", **change))  # type: ignore[arg-type]
    with pytest.raises(IdempotencyConflict):
        decide(made(replace(COMMAND, fingerprint=None)), replace(COMMAND, fingerprint=None, **change))  # type: ignore[arg-type]


def test_an_unused_fingerprint_is_not_written() -> None:
    (event,) = decide(INITIAL, replace(COMMAND, fingerprint=None))
    assert isinstance(event, JobRequested)
    assert "fingerprint" not in event.model_dump_json()
