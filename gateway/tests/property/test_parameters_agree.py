"""The JSON Schema of a model and what the gateway accepts are the same."""

import json
from datetime import UTC, datetime
from typing import Any, get_args

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dreamforge.contracts.errors import InvalidInput
from dreamforge.contracts.models.descriptor import ModelDescriptor, Parameters, Preset, SamplerName, VramProfile
from dreamforge.contracts.request.errors import AssetMismatch, NamedTwice, OutOfBounds, UnknownAsset
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.schema import request_schema
from dreamforge.contracts.request.values import STRENGTH_MIN
from dreamforge.gateway.submit.accept import SubmissionContext, accept
from dreamforge.gateway.submit.body import submission_for

VRAM = VramProfile(resident_bytes=1, denoise_bytes_per_latent=1, decode_bytes_per_px=1)
LIMITS = Limits(control=2, steps=20, images=3, prompt_chars=5, guidance_scale=9, pixels=128 * 128 * 4)
SCHEMA = submission_for(LIMITS)
CONTEXT = SubmissionContext("J", datetime(2026, 11, 24, tzinfo=UTC), "t", None, 1)
ASSETS = {
    name: ModelDescriptor(model_id=name, family=family, kind=kind, digest="1" * 64, vram=VRAM)
    for name, family, kind in (("l1", "sd", "lora"), ("l2", "sd", "lora"), ("c", "sd", "controlnet"))
}
SAMPLERS = get_args(SamplerName)
MODES = st.sampled_from([("text",), ("text", "image"), ("image",), ("inpaint",), ("text", "image", "inpaint")])
PARAMETERS = st.builds(
    Parameters,
    modes=MODES,
    negative_prompt=st.booleans(),
    steps_max=st.integers(1, 30),
    guidance_scale_min=st.sampled_from([0.0, 1.0]),
    guidance_scale_max=st.sampled_from([1.0, 8.0, 100.0]),
    samplers=st.lists(st.sampled_from(SAMPLERS), max_size=3, unique=True).map(tuple),
    loras_max=st.integers(0, 2),
    controlnet=st.booleans(),
    upscale_max=st.sampled_from([1.0, 2.0, 4.0]),
)
MODELS = st.builds(
    lambda parameters, multiple: ModelDescriptor(
        model_id="m",
        family="sd",
        digest="0" * 64,
        side_px_max=128,
        size_multiple_px=multiple,
        vram=VRAM,
        presets=(Preset(name="p", width_px=64, height_px=64, steps=1, guidance_scale=1.0),),
        parameters=parameters,
    ),
    PARAMETERS,
    st.sampled_from([8, 16, 64]),
)
UPLOAD = st.sampled_from(["a" * 64, "a" * 64, "a" * 63, 1])
NUMBER = st.sampled_from([-5, 0, 0.001, 0.01, 0.5, 1, 1.0, 1.5, 2, 4, 5, "1", True])
LORA = st.fixed_dictionaries(
    {"model_id": st.sampled_from(["l1", "l2"])}, optional={"weight": NUMBER, "text_weight": NUMBER}
)
SIDE = st.sampled_from([64, 128, 128.0, 72, 80, 24, 192, 64.5, "64"])
CONTROL = st.fixed_dictionaries(
    {"model_id": st.just("c"), "image": UPLOAD}, optional={"scale": NUMBER, "start": NUMBER, "end": NUMBER}
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "negative_prompt": st.sampled_from(["", "x", "xxxxxx", "\x00", 1]),
    "model_id": st.just("m"),
    "preset": st.sampled_from(["p", "q"]),
    "width_px": SIDE,
    "height_px": SIDE,
    "steps": st.sampled_from([0, 1, 2, 10, 20, 25, 31, 2.5]),
    "guidance_scale": NUMBER,
    "seed": st.sampled_from([-1, 0, 2**53 - 1, 2**53]),
    "images": st.sampled_from([0, 1, 3, 4]),
    "sampler": st.sampled_from([*SAMPLERS, "nope"]),
    "init_image": UPLOAD,
    "mask_image": UPLOAD,
    "strength": NUMBER,
    "loras": st.lists(LORA, max_size=3),
    "control": st.lists(CONTROL, max_size=3),
    "resize_mode": st.sampled_from(["crop", "fit", "stretch", "image_size", "tile"]),
    "upscale": st.fixed_dictionaries(
        {"factor": NUMBER},
        optional={
            "strength": NUMBER,
            "steps": st.sampled_from([0, 1, 10.0, 25, 2.5]),
            "guidance_scale": NUMBER,
            "sampler": st.sampled_from([*SAMPLERS, "nope"]),
            "seed": st.sampled_from([-1, 0, 2**53]),
            "prompt": st.sampled_from(["", "x", "xxxxxx", "\x00", 1]),
            "negative_prompt": st.sampled_from(["", "x", "xxxxxx"]),
        },
    ),
    "colour": st.just(1),
}
PROMPTS = st.sampled_from(["a", "aaaaa", "aaaaaa", "", 1])


@st.composite
def bodies(draw: st.DrawFn) -> dict[str, Any]:
    """A few fields at a time: of bodies with all of them nearly none is allowed."""
    names = draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=4, unique=True))
    prompt = draw(st.just("a") | PROMPTS)
    return {"prompt": prompt} | {name: draw(FIELDS[name]) for name in names}


def refusal(body: dict[str, Any], model: ModelDescriptor) -> InvalidInput | None:
    try:
        accept(
            json.dumps(body).encode(),
            CONTEXT,
            schema=SCHEMA,
            models={"m": model} | ASSETS,
            limits=LIMITS,
            image_sizes={"a" * 64: (100, 60)},
        )
    except InvalidInput as error:
        return error
    return None


def beyond_schemas(error: InvalidInput) -> bool:
    """What no schema can say."""
    if isinstance(error, OutOfBounds):
        too_few_steps = error.field in ("strength", "upscale/strength") and error.value >= STRENGTH_MIN
        no_step = error.field.startswith("control/") and " (of " in error.field
        return too_few_steps or no_step or error.field in ("pixels", "upscale (pixels)")
    return isinstance(error, UnknownAsset | AssetMismatch | NamedTwice)


@settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow])
@given(MODELS, bodies())
def test_the_schema_of_a_model_and_the_gateway_agree(model: ModelDescriptor, body: dict[str, Any]) -> None:
    schema = request_schema(model, LIMITS)
    allowed = jsonschema.Draft202012Validator(schema).is_valid(body)
    refused = refusal(body, model)
    if allowed:
        assert refused is None or beyond_schemas(refused), str(refused)
    else:
        assert refused is not None


@given(MODELS)
def test_every_schema_is_one(model: ModelDescriptor) -> None:
    jsonschema.Draft202012Validator.check_schema(request_schema(model, LIMITS))
