"""accept is total: any bytes become a command or an InvalidInput, and its problem document can be written."""

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dreamforge.contracts.errors import InvalidInput
from dreamforge.contracts.jobs.decisions import RequestJob, decide
from dreamforge.contracts.jobs.state import INITIAL
from dreamforge.contracts.log.envelope import seal, unseal
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.request.limits import Limits
from dreamforge.gateway.http.problems import problem_of
from dreamforge.gateway.submit.accept import SubmissionContext, accept, fingerprint
from dreamforge.gateway.submit.body import submission_for

MODEL = ModelDescriptor(
    model_id="m",
    family="sd",
    digest="0" * 64,
    vram=VramProfile(resident_bytes=1, denoise_bytes_per_latent=1, decode_bytes_per_px=1),
    presets=(Preset(name="small", width_px=64, height_px=64, steps=4, guidance_scale=2.0),),
)
LIMITS = Limits()
SCHEMA = submission_for(LIMITS)
NOW = datetime(2026, 11, 23, tzinfo=UTC)

anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=10,
)
values = anything | st.sampled_from(["m", "small", 64, 8, 72, 2**53, -1, 0.0, 10**30, "a\x00", "\ud800", 1e308])
objects = st.fixed_dictionaries({}, optional=dict.fromkeys((*SCHEMA.model_fields, "unknown"), values))
plausible = st.fixed_dictionaries(
    {"prompt": st.text(min_size=1, max_size=30)},
    optional={
        "width_px": st.sampled_from([64, 128, 60, 8, 7, 1, 0, None]),
        "steps": st.integers(-1, 200) | st.none(),
        "seed": st.integers(0, 2**53 - 1) | st.none(),
        "images": st.integers(0, 20),
        "guidance_scale": st.floats(0, 60) | st.integers(0, 10) | st.none(),
        "model_id": st.sampled_from(["m", "x", None]),
    },
)
bodies = st.one_of(
    st.binary(max_size=200),
    anything.map(lambda value: json.dumps(value).encode()),
    objects.map(lambda value: json.dumps(value).encode()),
    plausible.map(lambda value: json.dumps(value).encode()),
)


def outcome(body: bytes, key: str | None = None, chance: int = 1) -> RequestJob | InvalidInput:
    try:
        return accept(
            body, SubmissionContext("J", NOW, "t", key, chance), schema=SCHEMA, models={"m": MODEL}, limits=LIMITS
        )
    except InvalidInput as error:
        return error


@given(bodies)
def test_any_bytes_are_a_command_or_a_refusal_with_a_problem_document(body: bytes) -> None:
    found = outcome(body)
    if isinstance(found, InvalidInput):
        problem = problem_of(found)
        assert 400 <= problem.status < 500
        assert json.loads(problem.body())["detail"]
    else:
        (event,) = decide(INITIAL, found)
        envelope = seal(event, entity_id="J", event_id="e", source="/t")
        assert unseal(envelope.subject, envelope.headers, envelope.data, sequence=1).event == event
        assert b"\\u0000" not in envelope.data


@given(plausible, st.randoms(use_true_random=False), st.integers(0, 99), st.integers(0, 99))
def test_a_repeat_is_the_same_command_however_it_is_written(body: dict[str, Any], chance: Any, a: int, b: int) -> None:
    names = list(body)
    chance.shuffle(names)
    rewritten = json.dumps({name: body[name] for name in names} | {"preset": None}, indent=2).encode()
    first, again = outcome(json.dumps(body).encode(), "k", a), outcome(rewritten, "k", b)
    if isinstance(first, RequestJob):
        assert first == again
    assert fingerprint(json.dumps(body).encode()) == fingerprint(rewritten)


@given(plausible, plausible)
def test_different_bodies_have_different_fingerprints(one: dict[str, Any], other: dict[str, Any]) -> None:
    def given_fields(body: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in body.items() if value is not None}

    same = fingerprint(json.dumps(one).encode()) == fingerprint(json.dumps(other).encode())
    if same:
        assert given_fields(one) == given_fields(other)
