"""How long a video is: what a request says of it becomes frames that the model can make, or is refused by name."""

from typing import Any

import pytest

from dreamforge.contracts.models.descriptor import ModelDescriptor, VramProfile
from dreamforge.contracts.models.family_defaults import FAMILY_DEFAULTS, preset_of, vram_of
from dreamforge.contracts.models.vram import estimate_vram_bytes
from dreamforge.contracts.placement import needs_of, required_bytes
from dreamforge.contracts.request.errors import FieldNeeded, NotAllowed, OutOfBounds
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.request.resolve import inputs_of, resolve
from dreamforge.contracts.request.schema import request_schema


def model(family: str) -> ModelDescriptor:
    """What `models add` writes for a family, without files."""
    known = FAMILY_DEFAULTS[family]
    return ModelDescriptor(
        model_id=family,
        family=family,
        digest="0" * 64,
        size_multiple_px=known.size_multiple_px,
        side_px_min=known.side_px_min,
        side_px_max=known.side_px_max,
        vram=vram_of(family, 10),
        presets=(preset_of(family, 0, is_guidance_distilled=False),),
    )


MODELS = {name: model(name) for name in ("wan", "wan-i2v", "wan-ti2v", "ltx", "flux")}


def resolved(model_id: str, limits: Limits | None = None, **given: Any) -> RenderRequest:  # Any: of each parameter
    """A request of a model."""
    return resolve({"model_id": model_id, "prompt": "a fox", "seed": 1, **given}, MODELS, limits or Limits())


@pytest.mark.parametrize(
    ("model_id", "given", "frames", "per_second"),
    [
        ("wan", {}, 81, 16),
        ("ltx", {}, 121, 24),
        ("wan", {"duration_seconds": 2.0}, 33, 16),
        ("wan", {"duration_seconds": 2.0, "frames_per_second": 24}, 49, 24),
        ("ltx", {"duration_seconds": 2.0}, 49, 24),
        ("ltx", {"duration_seconds": 0.01}, 1, 24),
        ("wan", {"frames": 41}, 41, 16),
    ],
)
def test_a_duration_becomes_the_nearest_frames_that_the_family_makes(
    model_id: str, given: dict[str, Any], frames: int, per_second: int
) -> None:
    request = resolved(model_id, **given)
    assert (request.frames, request.frames_per_second, request.duration_seconds) == (frames, per_second, None)
    assert (request.output_format, request.output_quality) == ("mp4", 65)
    assert resolved(**inputs_of(request)) == request


def test_frames_that_a_family_cannot_make_are_refused_with_those_around_them() -> None:
    with pytest.raises(NotAllowed, match=r"frames is '80'.*it takes: 77, 81"):
        resolved("wan", frames=80)
    with pytest.raises(NotAllowed, match="it takes: 73, 81"):
        resolved("ltx", frames=80)
    with pytest.raises(OutOfBounds, match="frames"):
        resolved("wan", frames=125)
    with pytest.raises(OutOfBounds, match=r"duration_seconds \(frames\)"):
        resolved("wan", duration_seconds=30.0)


def test_the_operator_bounds_frames_and_their_pixels() -> None:
    with pytest.raises(OutOfBounds, match="frames"):
        resolved("wan", Limits(frames=40), frames=41)
    small = Limits(video_pixels=33 * 832 * 480)
    assert resolved("wan", small, frames=33).frames == 33
    with pytest.raises(OutOfBounds, match=r"video pixels \(frames x width x height\)"):
        resolved("wan", small, frames=37)


def test_duration_and_frames_are_one_of_two() -> None:
    with pytest.raises(FieldNeeded, match="say one of them"):
        resolved("wan", frames=33, duration_seconds=2.0)


@pytest.mark.parametrize("name", ["duration_seconds", "frames_per_second", "frames"])
def test_a_model_of_images_refuses_what_is_of_a_video(name: str) -> None:
    with pytest.raises(NotAllowed, match=f"{name} .*'flux' does not take"):
        resolved("flux", None, **{name: 9})
    assert name not in request_schema(MODELS["flux"], Limits())["properties"]
    assert name in request_schema(MODELS["ltx"], Limits())["properties"]


def test_a_video_is_mp4_and_an_image_is_not() -> None:
    with pytest.raises(NotAllowed, match=r"output_format is 'png'.*it takes: mp4"):
        resolved("ltx", output_format="png")
    with pytest.raises(NotAllowed, match=r"output_format is 'mp4'.*it takes: png, jpeg"):
        resolved("flux", output_format="mp4")
    assert resolved("flux").output_format == "png"


def test_an_image_begins_a_video_and_is_not_rendered_over() -> None:
    image = "1" * 64
    assert resolved("ltx", init_image=image).strength is None
    assert resolved("wan-i2v", init_image=image).mode == "image"
    with pytest.raises(NotAllowed, match="strength"):
        resolved("ltx", init_image=image, strength=0.5)
    with pytest.raises(NotAllowed, match="init_image"):
        resolved("wan", init_image=image)
    with pytest.raises(FieldNeeded, match="init_image"):
        resolved("wan-i2v")


def test_memory_and_cost_grow_with_the_frames() -> None:
    short, long = resolved("wan", frames=5), resolved("wan", frames=81)
    assert required_bytes(needs_of(long), MODELS) > required_bytes(needs_of(short), MODELS)
    assert long.pixel_steps == 81 * 832 * 480 * 50
    assert needs_of(long).batch_shape == "wan 832x480x81"


def test_frames_count_by_latent_frame_while_denoising_and_one_by_one_when_decoded() -> None:
    profile = VramProfile(
        resident_bytes=0,
        denoise_bytes_per_latent=1000,
        decode_bytes_per_px=1,
        frames_per_latent=4,
        frame_bytes_per_px=2,
    )
    size = {"batch": 1, "height_px": 16, "width_px": 16}
    assert estimate_vram_bytes(profile, **size, frames=9) == 1000 * 4 * 3
    decoding = profile.model_copy(update={"denoise_bytes_per_latent": 0})
    assert estimate_vram_bytes(decoding, **size, frames=9) == (1 + 2 * 9) * 256
    plain = VramProfile(resident_bytes=5, denoise_bytes_per_latent=7, decode_bytes_per_px=3)
    assert plain.model_dump(mode="json").keys().isdisjoint({"frames_per_latent", "frame_bytes_per_px"})


def test_the_second_guidance_scale_is_the_presets_of_a_model_with_two_transformers() -> None:
    usual = MODELS["wan"].presets[0].model_copy(update={"guidance_scale": 4.0, "guidance_scale_2": 3.0})
    two = MODELS["wan"].model_copy(update={"presets": (usual,)})

    def asked(**given: Any) -> RenderRequest:  # Any: of each parameter
        return resolve({"prompt": "a fox", "seed": 1, **given}, {"wan": two}, Limits())

    assert asked().guidance_scale_2 == 3.0
    assert asked(guidance_scale_2=5.5).guidance_scale_2 == 5.5
    assert asked(guidance_scale=1.0).guidance_scale_2 is None
    with pytest.raises(FieldNeeded, match="guidance_scale is needed"):
        asked(guidance_scale=1.0, guidance_scale_2=5.5)
    with pytest.raises(NotAllowed):
        resolved("wan", guidance_scale_2=3.0)
    by_its_files = MODELS["wan"].model_copy(update={"second_transformer": True})
    again = resolve({"prompt": "a fox", "seed": 1, "guidance_scale_2": 3.0}, {"wan": by_its_files}, Limits())
    assert again.guidance_scale_2 == 3.0


def test_the_shift_of_a_flow_is_the_presets_where_the_model_follows_one() -> None:
    usual = MODELS["wan"].presets[0].model_copy(update={"flow_shift": 8.0})
    shifting = {"wan": MODELS["wan"].model_copy(update={"presets": (usual,)})}
    asked = {"prompt": "a fox", "seed": 1}
    assert resolve(asked, shifting, Limits()).flow_shift == 8.0
    assert resolve(asked | {"flow_shift": 3.0}, shifting, Limits()).flow_shift == 3.0
    assert resolved("wan").flow_shift is None
    still = {"wan": shifting["wan"].model_copy(update={"family": "stable-diffusion-xl"})}
    with pytest.raises(NotAllowed, match="flow_shift"):
        resolve(asked | {"flow_shift": 3.0}, still, Limits())
