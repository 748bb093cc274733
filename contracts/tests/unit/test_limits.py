"""A wish is filled from its preset and refused with the field, the value and the bound."""

import pytest

from dreamforge.contracts.errors import OutOfBounds, SizeNotSupported, UnknownModel, UnknownPreset
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.resolve import Wish, resolve

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


def test_the_first_model_and_its_first_preset_are_the_defaults() -> None:
    request = resolve(Wish(prompt="a", seed=1), MODELS, Limits())
    assert (request.model_id, request.preset, request.steps, request.width_px) == ("m", "small", 4, 64)


def test_what_is_said_wins_over_the_preset() -> None:
    request = resolve(Wish(prompt="a", seed=1, preset="wide", steps=2, guidance_scale=0.0), MODELS, Limits())
    assert (request.width_px, request.steps, request.guidance_scale) == (128, 2, 0.0)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownModel, match="known models: m"):
        resolve(Wish(prompt="a", seed=1, model_id="x"), MODELS, Limits())
    with pytest.raises(UnknownModel, match="start a runner"):
        resolve(Wish(prompt="a", seed=1), {}, Limits())
    with pytest.raises(UnknownPreset, match="small, wide"):
        resolve(Wish(prompt="a", seed=1, preset="x"), MODELS, Limits())


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        (Wish(prompt="", seed=1), "prompt (characters)"),
        (Wish(prompt="x" * 2001, seed=1), "prompt (characters)"),
        (Wish(prompt="x", seed=1, negative_prompt="x" * 2001), "negative_prompt (characters)"),
        (Wish(prompt="x", seed=1, width_px=2048), "width_px"),
        (Wish(prompt="x", seed=1, height_px=16), "height_px"),
        (Wish(prompt="x", seed=1, steps=151), "steps"),
        (Wish(prompt="x", seed=1, images=17), "images"),
        (Wish(prompt="x", seed=1, guidance_scale=50.5), "guidance_scale"),
    ],
)
def test_each_bound_is_checked_and_named(wish: Wish, field: str) -> None:
    with pytest.raises(OutOfBounds) as caught:
        resolve(wish, MODELS, Limits())
    assert caught.value.field == field
    assert caught.value.minimum <= caught.value.maximum


def test_sides_must_be_multiples() -> None:
    with pytest.raises(SizeNotSupported, match="multiple of 8"):
        resolve(Wish(prompt="x", seed=1, width_px=65), MODELS, Limits())


def test_image_i_of_a_job_has_the_seed_of_its_own() -> None:
    request = resolve(Wish(prompt="x", seed=2**53 - 1, images=3), MODELS, Limits())
    assert request.seeds() == (2**53 - 1, 0, 1)
