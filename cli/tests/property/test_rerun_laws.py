"""A rerun of any request resolves to the same request, with the same sizes to the pixel."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dreamforge.cli.jobs.rerun import submission
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.request.errors import OutOfBounds
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.request.resolve import Given, resolve
from dreamforge.contracts.request.values import UpscaleInput

MODEL = ModelDescriptor(
    model_id="m",
    family="stable-diffusion",
    digest="0" * 64,
    size_multiple_px=8,
    side_px_max=1024,
    vram=VramProfile(resident_bytes=1, denoise_bytes_per_latent=1, decode_bytes_per_px=1),
    presets=(Preset(name="p", width_px=512, height_px=512, steps=20, guidance_scale=5.0),),
)
LIMITS = Limits(pixels=2**24)
SIDES = st.integers(1, 128).map(lambda cells: cells * MODEL.size_multiple_px)


def resolved(given: Given) -> RenderRequest:
    return resolve(given, {"m": MODEL}, LIMITS)


def rerun_of(request: RenderRequest) -> RenderRequest:
    body = submission(request, request.seed, {})
    del body["determinism"]
    return resolved(body | {"upscale": UpscaleInput(**body["upscale"])})


@given(SIDES, SIDES, st.floats(1, MODEL.capabilities.upscale_max))
def test_an_upscaled_request_is_rerun_at_exactly_its_size(width: int, height: int, factor: float) -> None:
    given = {
        "prompt": "a fox",
        "seed": 1,
        "width_px": width,
        "height_px": height,
        "upscale": UpscaleInput(factor=factor),
    }
    try:
        request = resolved(given)
    except OutOfBounds:
        assume(False)
    assert rerun_of(request) == request


def test_a_request_without_a_recorded_factor_is_rerun_by_its_width() -> None:
    request = resolved({"prompt": "a fox", "seed": 1, "upscale": UpscaleInput(factor=1.5)})
    assert request.upscale is not None
    old = request.model_copy(update={"upscale": request.upscale.model_copy(update={"factor": None})})
    assert "factor" not in old.model_dump_json()
    assert submission(old, 1, {})["upscale"]["factor"] == pytest.approx(1.5)
