"""What a body becomes, and that a repeat becomes the same."""

from datetime import UTC, datetime

import pytest

from dreamforge.contracts.jobs.decisions import RequestJob
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.request.errors import OutOfBounds
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.values import Determinism
from dreamforge.gateway.http.errors import InvalidRequest
from dreamforge.gateway.submit.accept import SubmissionContext, accept, fingerprint, parse
from dreamforge.gateway.submit.body import submission_for

MODEL = ModelDescriptor(
    model_id="m",
    family="sd",
    digest="0" * 64,
    vram=VramProfile(resident_bytes=1, denoise_bytes_per_latent=1, decode_bytes_per_px=1),
    presets=(Preset(name="small", width_px=64, height_px=64, steps=4, guidance_scale=2.0),),
)
LIMITS = Limits(steps=10, images=2, prompt_chars=20)
SCHEMA = submission_for(LIMITS)


def command(
    body: bytes,
    *,
    key: str | None = None,
    random_seed: int = 1,
    job_id: str = "J",
    determinism: Determinism | None = None,
) -> RequestJob:
    context = SubmissionContext(job_id, datetime(2026, 11, 23, tzinfo=UTC), "t", key, random_seed, determinism)
    return accept(body, context, schema=SCHEMA, models={"m": MODEL}, limits=LIMITS)


def test_without_a_key_chance_gives_the_seed() -> None:
    assert command(b'{"prompt": "a"}', random_seed=5).request.seed == 5
    assert command(b'{"prompt": "a"}').fingerprint is None


def test_with_a_key_the_seed_follows_from_the_job() -> None:
    first = command(b'{"prompt": "a"}', key="k", random_seed=5)
    again = command(b'{"prompt": "a"}', key="k", random_seed=6)
    other = command(b'{"prompt": "a"}', key="k2", random_seed=5, job_id="K")
    assert first == again
    assert first.request.seed != other.request.seed


def test_a_seed_that_is_said_is_taken() -> None:
    assert command(b'{"prompt": "a", "seed": 0}', key="k").request.seed == 0


def test_determinism_is_the_requests_own_or_that_of_its_tenant() -> None:
    assert command(b'{"prompt": "a"}').request.determinism is None
    assert command(b'{"prompt": "a"}', determinism="strict").request.determinism == "strict"
    own = command(b'{"prompt": "a", "determinism": "batched"}', determinism="strict")
    assert own.request.determinism == "batched"


def test_a_geometry_is_that_of_one_image() -> None:
    asked = command(b'{"prompt": "a", "geometry": {"size": 4, "place": 3}}').request
    assert (asked.images, asked.pixel_steps) == (1, 4 * 64 * 64 * 4)
    with pytest.raises(OutOfBounds):
        command(b'{"prompt": "a", "images": 2, "geometry": {"size": 4, "place": 3}}')
    with pytest.raises(InvalidRequest, match="outside of 4 images"):
        command(b'{"prompt": "a", "geometry": {"size": 4, "place": 4}}')


def test_json_has_one_kind_of_number() -> None:
    assert command(b'{"prompt": "a", "width_px": 64.0, "steps": 4e0}').request.steps == 4
    with pytest.raises(InvalidRequest):
        command(b'{"prompt": "a", "steps": 4.5}')


def test_deadlines_are_carried() -> None:
    deadlines = command(b'{"prompt": "a", "deadlines": {"run_within_seconds": 5}}').deadlines
    assert deadlines is not None
    assert (deadlines.start_within_seconds, deadlines.run_within_seconds) == (None, 5.0)


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        (b'{"prompt": "a", "steps": 11}', "/steps", "less than or equal to 10 (it is 11)"),
        (b'{"prompt": "a", "images": 3}', "/images", "less than or equal to 2"),
        (b'{"prompt": "aaaaaaaaaaaaaaaaaaaaa"}', "/prompt", "at most 20 characters"),
        (b'{"prompt": "a", "style": 1}', "/style", "known fields: model_id, preset, prompt, negative_prompt"),
        (b'{"prompt": "a\\u0000"}', "/prompt", "NUL"),
        (b"3", "", "must be a JSON object"),
    ],
)
def test_a_refusal_says_where_what_and_what_would_be_right(body: bytes, pointer: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(body, SCHEMA)
    (violation,) = refused.value.violations
    assert violation.pointer == pointer
    assert words in violation.detail


def test_a_flood_of_wrong_fields_is_answered_briefly() -> None:
    body = b'{"prompt": "a", ' + b", ".join(b'"f%d": 1' % n for n in range(1000)) + b"}"
    with pytest.raises(InvalidRequest) as refused:
        parse(body, SCHEMA)
    assert len(refused.value.violations) == 20


def test_the_limits_are_in_the_schema() -> None:
    properties = SCHEMA.model_json_schema()["properties"]
    assert properties["prompt"]["maxLength"] == 20
    assert properties["images"]["maximum"] == 2
    assert properties["steps"]["anyOf"][0]["maximum"] == 10


@pytest.mark.parametrize("body", [b"", b"[]", b"3", b"[" * 100_000, b"\xff", b"9" * 5000])
def test_what_is_not_an_object_has_no_fingerprint(body: bytes) -> None:
    assert fingerprint(body) is None
