"""A request is filled from its preset and refused with the field, the value and the bound."""

import pytest

from dreamforge.contracts.errors import SizeNotSupported
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.request.errors import OutOfBounds, UnknownModel, UnknownPreset
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.resolve import Given, resolve

MODEL = ModelDescriptor(
    model_id="m",
    family="sd",
    digest="0" * 64,
    vram=VramProfile(resident_bytes=1, denoise_bytes_per_latent=1, decode_bytes_per_px=1),
    presets=(
        Preset(name="small", width_px=64, height_px=64, steps=4, guidance_scale=2.0),
        Preset(name="wide", width_px=128, height_px=64, steps=8, guidance_scale=5.0),
    ),
)
MODELS = {"m": MODEL}


def given(**values: object) -> Given:
    return {"prompt": "a", "seed": 1} | values


def test_the_first_model_and_its_first_preset_are_the_defaults() -> None:
    request = resolve(given(), MODELS, Limits())
    assert (request.model_id, request.preset, request.steps, request.width_px) == ("m", "small", 4, 64)


def test_what_is_said_wins_over_the_preset() -> None:
    request = resolve(given(preset="wide", steps=2, guidance_scale=0.0), MODELS, Limits())
    assert (request.width_px, request.steps, request.guidance_scale) == (128, 2, 0.0)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownModel, match="known models: m"):
        resolve(given(model_id="x"), MODELS, Limits())
    with pytest.raises(UnknownModel, match="start a runner"):
        resolve(given(), {}, Limits())
    with pytest.raises(UnknownPreset, match="small, wide"):
        resolve(given(preset="x"), MODELS, Limits())


@pytest.mark.parametrize(
    ("values", "field"),
    [
        (given(prompt=""), "prompt (characters)"),
        (given(prompt="x" * 2001), "prompt (characters)"),
        (given(prompt="x", negative_prompt="x" * 2001), "negative_prompt (characters)"),
        (given(prompt="x", width_px=2048), "width_px"),
        (given(prompt="x", height_px=16), "height_px"),
        (given(prompt="x", steps=151), "steps"),
        (given(prompt="x", images=17), "images"),
        (given(prompt="x", guidance_scale=50.5), "guidance_scale"),
    ],
)
def test_each_bound_is_checked_and_named(values: Given, field: str) -> None:
    with pytest.raises(OutOfBounds) as caught:
        resolve(values, MODELS, Limits())
    assert caught.value.field == field
    assert caught.value.minimum <= caught.value.maximum


def test_sides_must_be_multiples() -> None:
    with pytest.raises(SizeNotSupported, match="multiple of 8"):
        resolve(given(prompt="x", width_px=65), MODELS, Limits())


def test_image_i_of_a_job_has_the_seed_of_its_own() -> None:
    request = resolve(given(prompt="x", seed=2**53 - 1, images=3), MODELS, Limits())
    assert request.seeds() == (2**53 - 1, 0, 1)
