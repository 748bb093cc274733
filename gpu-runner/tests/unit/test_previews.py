"""A preview resembles the picture, comes when it is due and never costs it anything."""

import base64
import io
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.torch
pytest.importorskip("torch", reason="the child's modules need torch")

import torch  # noqa: E402
from diffusers import AutoencoderTiny  # noqa: E402
from PIL import Image  # noqa: E402
from torch.nn.functional import interpolate  # noqa: E402

from dreamforge.gpu_runner.rendering.features.previews import PreviewMaker, Projection, fit, unpacked  # noqa: E402

SHAPES = Path(__file__).parents[3] / "models" / "forge-shapes"
SIZE = {"width_px": 64, "height_px": 64}


@pytest.fixture(scope="module")
def vae() -> Any:
    return AutoencoderTiny.from_pretrained(SHAPES / "vae", torch_dtype=torch.float32)


def test_a_projection_resembles_what_the_autoencoder_decodes(vae: Any) -> None:
    """Two halves of a picture, red and blue, encoded: the look at their latents keeps them apart."""
    picture = torch.zeros(1, 3, 64, 64)
    picture[:, 0, :, :32] = 1.0
    picture[:, 2, :, 32:] = 1.0
    with torch.inference_mode():
        latents = vae.encode(picture * 2 - 1).latents
        colours = fit(vae).look(latents).float() / 255
    small = interpolate(picture, size=colours.shape[0], mode="area")[0].permute(1, 2, 0)
    assert torch.corrcoef(torch.stack([colours.flatten(), small.flatten()]))[0, 1] > 0.5


def test_a_fit_is_the_same_each_time_and_uses_up_nobodys_chance(vae: Any) -> None:
    before = torch.random.get_rng_state()
    first, second = fit(vae), fit(vae)
    # The solver's last bits depend on where its memory lies.
    assert torch.allclose(first.matrix, second.matrix, atol=1e-4)
    assert torch.equal(torch.random.get_rng_state(), before)


def preview_maker(every_seconds: float) -> PreviewMaker:
    projection = Projection(torch.ones(4, 3), torch.zeros(3))
    return PreviewMaker(projection, every_seconds, ThreadPoolExecutor(1), **SIZE)


def test_a_preview_is_given_out_once_and_is_a_small_picture() -> None:
    maker, latents = preview_maker(1e-9), torch.ones(1, 4, 6, 8)
    assert maker.look(None, latents) is None
    assert maker._making is not None
    wait([maker._making])
    maker.every_seconds = 3600
    uri = maker.look(None, latents)
    assert uri is not None
    assert maker.look(None, latents) is None
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(body))) as image:
        assert (image.format, image.size) == ("JPEG", (64, 48))


def test_nothing_is_looked_at_before_its_time() -> None:
    maker = preview_maker(3600)
    assert maker.look(None, torch.ones(1, 4, 8, 8)) is None
    assert maker._making is None


def test_latents_of_an_unknown_shape_cost_the_previews_and_not_the_picture() -> None:
    maker = preview_maker(1e-9)
    for latents in (torch.ones(1, 4, 1, 2, 8, 8), torch.ones(1, 4, 8, 8)):
        assert maker.look(None, latents) is None
    assert maker._making is None


def test_packed_latents_are_unpacked_by_the_pipelines_own_method() -> None:
    from diffusers import FluxPipeline

    latents = torch.randn(1, 16, 8, 8)
    packed = FluxPipeline._pack_latents(latents, 1, 16, 8, 8)

    class Packing:
        vae_scale_factor = 8
        _unpack_latents = staticmethod(FluxPipeline._unpack_latents)

    assert torch.equal(unpacked(Packing(), packed, **SIZE), latents)
