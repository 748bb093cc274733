"""What a family can do, and that a request beyond it is refused with the field, the value and what would be right."""

import json
from typing import Any

import pytest
from pydantic import ConfigDict, create_model

from dreamforge.contracts.errors import InvalidInput, SizeNotSupported
from dreamforge.contracts.models.descriptor import Kind, ModelDescriptor, Parameters, Preset, VramProfile
from dreamforge.contracts.models.family_defaults import UPSCALER_PRESET
from dreamforge.contracts.placement import needs_of, required_bytes
from dreamforge.contracts.request.batch_key import batch_key
from dreamforge.contracts.request.completion import least_strength
from dreamforge.contracts.request.errors import (
    AssetMismatch,
    FieldNeeded,
    NamedTwice,
    NotAllowed,
    NotAPipeline,
    OutOfBounds,
    UnknownAsset,
)
from dreamforge.contracts.request.image_size import ImageSizeNeeded
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.request.resolve import Given, inputs_of, resolve
from dreamforge.contracts.request.schema import input_fields, request_schema
from dreamforge.contracts.request.values import (
    ControlUse,
    LoraUse,
    MaskedArea,
    MaskedAreaInput,
    Upscale,
    UpscaleInput,
)

VRAM = VramProfile(resident_bytes=1, denoise_bytes_per_latent=1, decode_bytes_per_px=1)
PRESET = Preset(name="p", width_px=64, height_px=96, steps=4, guidance_scale=2.0)
IMAGE, MASK = "a" * 64, "b" * 64


def pipeline(family: str, **changes: object) -> ModelDescriptor:
    model = ModelDescriptor(model_id=family, family=family, digest="0" * 64, vram=VRAM, presets=(PRESET,))
    return model.model_copy(update=changes)


def asset(model_id: str, family: str, kind: Kind) -> ModelDescriptor:
    return ModelDescriptor(model_id=model_id, family=family, kind=kind, digest="1" * 64, vram=VRAM)


MODELS = {
    model.model_id: model
    for model in (
        asset("early", "flux", "lora"),  # registered first, and still not the default model
        pipeline("stable-diffusion"),
        pipeline("flux"),
        pipeline("synthetic"),
        asset("l", "stable-diffusion", "lora"),
        asset("c", "stable-diffusion", "controlnet"),
        asset("v", "stable-diffusion", "vae"),
        pipeline("stable-diffusion-2"),
        ModelDescriptor(
            **{"model_id": "x4", "family": "esrgan", "kind": "upscaler", "digest": "2" * 64, "scale": 4, "vram": VRAM},
            **{"presets": (UPSCALER_PRESET,), "size_multiple_px": 1, "side_px_min": 8, "side_px_max": 65_536},
        ),
    )
}


def given(model_id: str | None = "stable-diffusion", **changes: object) -> Given:
    return {"prompt": "a", "seed": 1, "model_id": model_id} | changes


def enlarge(factor: float, strength: float | None = None) -> UpscaleInput:
    return UpscaleInput(factor=factor, strength=strength)


def test_a_model_says_more_than_its_family() -> None:
    own = Parameters(modes=("image",))
    assert pipeline("flux", parameters=own).capabilities == own
    assert pipeline("something-new").capabilities == Parameters()
    assert "inpaint" in pipeline("flux").capabilities.modes


def test_the_default_model_renders() -> None:
    assert resolve(given(None), MODELS, Limits()).model_id == "stable-diffusion"
    with pytest.raises(ValueError, match="lora"):
        request_schema(MODELS["l"], Limits())


def test_a_whole_request_is_resolved_with_every_default_filled_in() -> None:
    values = given(
        init_image=IMAGE,
        mask_image=MASK,
        sampler="euler_a",
        loras=(LoraUse(model_id="l", weight=0.5),),
        control=(ControlUse(model_id="c", image=IMAGE),),
        upscale=enlarge(1.55),
    )
    request = resolve(values, MODELS, Limits())
    assert (request.mode, request.strength, request.assets) == ("inpaint", 1.0, ("l", "c"))
    assert request.upscale == Upscale(width_px=96, height_px=152, strength=0.35, factor=1.55)
    assert request.uploads == (IMAGE, MASK)
    assert resolve(given(init_image=IMAGE), MODELS, Limits()).strength == 0.8


def test_a_vae_is_one_of_the_assets_and_fits_what_has_the_same_latents() -> None:
    assert resolve(given(vae="v", loras=(LoraUse(model_id="l"),)), MODELS, Limits()).assets == ("l", "v")
    assert resolve(given("stable-diffusion-2", vae="v"), MODELS, Limits()).vae == "v"


def test_a_second_pass_records_what_it_has_otherwise_than_the_first() -> None:
    same = UpscaleInput(factor=2, seed=1, steps=4, guidance_scale=2.0, prompt="a", negative_prompt="")
    assert resolve(given(upscale=same), MODELS, Limits()) == resolve(given(upscale=enlarge(2)), MODELS, Limits())
    own = {
        "seed": 5,
        "steps": 9,
        "guidance_scale": 3.0,
        "sampler": "heun",
        "prompt": "b <lora:l:1>",
        "negative_prompt": "(c)",
    }
    loras = (LoraUse(model_id="l"),)
    request = resolve(given(upscale=UpscaleInput(factor=2, strength=0.5, **own), loras=loras), MODELS, Limits())
    assert request.upscale == Upscale(width_px=128, height_px=192, strength=0.5, factor=2, **own | {"prompt": "b"})
    assert request.prompt_syntax == "weighted", "the second pass has brackets"
    second = request.second_pass(request.upscale)
    assert (second.steps, second.width_px, second.height_px, second.loras) == (9, 128, 192, loras)
    assert request.pixel_steps == 4 * 64 * 96 + 9 * 128 * 192
    assert (request.second_seed(3), resolve(given(), MODELS, Limits()).second_seed(3)) == (7, None)
    again = inputs_of(request)
    values = given(**again | {"loras": loras, "upscale": UpscaleInput(**again["upscale"])})
    assert resolve(values, MODELS, Limits()) == request


def test_an_image_of_another_shape_is_cropped_unless_the_request_says_how() -> None:
    def recorded(**changes: object) -> str | None:
        return resolve(given(**changes), MODELS, Limits()).resize_mode

    control = (ControlUse(model_id="c", image=IMAGE),)
    assert recorded() is None
    assert recorded(resize_mode="fit") is None, "there is no image"
    assert recorded(init_image=IMAGE) == recorded(control=control) == "crop"
    assert recorded(init_image=IMAGE, resize_mode="fit") == "fit"
    request = resolve(given(init_image=IMAGE), MODELS, Limits())
    assert inputs_of(request)["resize_mode"] == "crop"
    before = request.model_copy(update={"resize_mode": None})
    assert "resize_mode" not in before.model_dump_json()
    assert inputs_of(before)["resize_mode"] == "stretch"


def test_an_image_is_enlarged_by_the_scale_of_an_upscaler_or_to_the_sides_that_are_stated() -> None:
    values = given("x4", prompt="", init_image=IMAGE)
    with pytest.raises(ImageSizeNeeded):
        resolve(values, MODELS, Limits())
    request = resolve(values, MODELS, Limits(), {IMAGE: (301, 200)})
    assert (request.width_px, request.height_px, request.steps, request.strength) == (1204, 800, 1, None)
    assert inputs_of(request).items() >= {"model_id": "x4", "init_image": IMAGE, "width_px": 1204}.items()
    wide = resolve(values | {"width_px": 602}, MODELS, Limits(), {IMAGE: (301, 200)})
    assert (wide.width_px, wide.height_px) == (602, 400)
    huge = resolve(values, MODELS, Limits(), {IMAGE: (4000, 3000)})
    assert huge.width_px * huge.height_px <= Limits().upload_pixels
    for wrong in (
        {"prompt": "a fox"},
        {"steps": 2},
        {"strength": 0.5},
        {"upscale": enlarge(2)},
        {"negative_prompt": "x"},
    ):
        with pytest.raises((NotAllowed, OutOfBounds)):
            resolve(values | wrong, MODELS, Limits(), {IMAGE: (30, 20)})
    with pytest.raises(FieldNeeded, match="init_image"):
        resolve(given("x4", prompt=""), MODELS, Limits())


def test_a_second_pass_in_tiles_needs_the_memory_of_one_and_costs_all_of_them() -> None:
    def tiled(**how: Any) -> RenderRequest:
        return resolve(given(width_px=256, height_px=192, upscale=UpscaleInput(factor=4, **how)), MODELS, Limits())

    request, whole = tiled(tile_px=512), tiled()
    assert request.upscale is not None
    assert (request.upscale.tile_overlap_px, len(request.upscale.tiles)) == (64, 6)
    assert request.upscale.tiled_px == 6 * 512 * 512
    assert (needs_of(request).width_px, needs_of(request).height_px) == (512, 512)
    assert (needs_of(whole).width_px, needs_of(whole).height_px) == (1024, 768)
    second = 6 * 512 * 512 * request.steps
    assert request.pixel_steps == 256 * 192 * request.steps + second
    made = request.steps * 256 * 192 + request.upscale.strength * second
    assert request.steps_at_full_size == pytest.approx(made / (512 * 512))
    again = given(width_px=256, height_px=192) | {"upscale": UpscaleInput(**inputs_of(request)["upscale"])}
    assert resolve(again, MODELS, Limits()) == request
    assert tiled(tile_px=1024) == whole, "one tile has it all"
    assert needs_of(tiled(tile_px=64)).width_px == 256, "the first pass is larger than a tile"
    assert batch_key(request) is None


def test_a_second_pass_names_an_upscaler_or_a_method() -> None:
    named = resolve(given(upscale=UpscaleInput(factor=2, model_id="x4")), MODELS, Limits())
    assert named.assets == ("x4",)
    assert inputs_of(named)["upscale"] == {"factor": 2.0, "strength": 0.35, "model_id": "x4"}
    latent = resolve(given(upscale=UpscaleInput(factor=2, method="latent")), MODELS, Limits())
    assert (latent.assets, latent.upscale.method if latent.upscale else None) == ((), "latent")
    with pytest.raises(UnknownAsset):
        resolve(given(upscale=UpscaleInput(factor=2, model_id="l")), MODELS, Limits())
    with pytest.raises(NotAllowed, match="upscale/method"):
        resolve(given(upscale=UpscaleInput(factor=2, model_id="x4", method="latent")), MODELS, Limits())


def test_a_masked_area_is_recorded_with_the_size_of_the_image_and_requested_by_its_padding() -> None:
    values = given(init_image=IMAGE, mask_image=MASK, masked_area=MaskedAreaInput(padding_px=8), mask_fill="noise")
    with pytest.raises(ImageSizeNeeded):
        resolve(values, MODELS, Limits())
    request = resolve(values, MODELS, Limits(), {IMAGE: (300, 200)})
    assert request.masked_area == MaskedArea(padding_px=8, width_px=300, height_px=200)
    assert (request.width_px, request.height_px) == (PRESET.width_px, PRESET.height_px)
    assert inputs_of(request)["masked_area"] == {"padding_px": 8}
    with pytest.raises(FieldNeeded, match="mask_image"):
        resolve(given(init_image=IMAGE, masked_area=MaskedAreaInput(padding_px=8)), MODELS, Limits())
    with pytest.raises(OutOfBounds, match="width_px of webp"):
        resolve(values | {"output_format": "webp"}, MODELS, Limits(), {IMAGE: (20_000, 20)})


@pytest.mark.parametrize(
    ("image", "stated", "expected"),
    [
        ((640, 480), {}, (640, 480)),
        ((643, 477), {}, (640, 480)),
        ((4000, 3000), {}, (1024, 768)),
        ((300, 4000), {}, (80, 1024)),
        ((8, 4000), {}, (32, 1024)),
        ((16, 12), {}, (40, 32)),
        ((1000, 500), {"width_px": 512}, (512, 256)),
        ((1000, 500), {"height_px": 512}, (1024, 512)),
        ((1000, 500), {"width_px": 64, "height_px": 64}, (64, 64)),
    ],
)
def test_a_render_takes_the_size_of_its_image_within_the_model(
    image: tuple[int, int], stated: dict[str, int], expected: tuple[int, int]
) -> None:
    values = given(init_image=IMAGE, resize_mode="image_size", **stated)
    with pytest.raises(ImageSizeNeeded) as needed:
        resolve(values, MODELS, Limits())
    assert (needed.value.field, needed.value.sha256) == ("init_image", IMAGE)
    request = resolve(values, MODELS, Limits(), {IMAGE: image})
    assert (request.width_px, request.height_px, request.resize_mode) == (*expected, "crop")
    again = resolve({**inputs_of(request), "seed": 1}, MODELS, Limits())
    assert again == request


def test_a_size_taken_from_an_image_stays_within_the_limit_of_pixels() -> None:
    values = given(init_image=IMAGE, resize_mode="image_size")
    request = resolve(values, MODELS, Limits(pixels=100_000), {IMAGE: (1000, 900)})
    assert 90_000 < request.width_px * request.height_px <= 100_000
    assert resolve(given(resize_mode="image_size"), MODELS, Limits()).width_px == PRESET.width_px


@pytest.mark.parametrize("steps", range(1, 151))
def test_every_default_strength_leaves_a_step_to_make(steps: int) -> None:
    request = resolve(given(init_image=IMAGE, steps=steps, upscale=enlarge(2)), MODELS, Limits())
    assert request.strength is not None
    assert request.upscale is not None
    assert int(steps * request.strength) >= 1
    assert int(steps * request.upscale.strength) >= 1
    assert int(steps * least_strength(steps)) >= 1


@pytest.mark.parametrize(
    ("values", "kind", "field", "words"),
    [
        (given("l"), NotAPipeline, None, "'l' is a lora"),
        (given("flux", negative_prompt="bad"), NotAllowed, "negative_prompt", "takes none"),
        (given("flux", sampler="ddim"), NotAllowed, "sampler", "flow_euler"),
        (given("synthetic", init_image=IMAGE), NotAllowed, "init_image", "'synthetic' does not take"),
        (given("synthetic", loras=(LoraUse(model_id="l"),)), NotAllowed, "loras", "takes none"),
        (given("synthetic", upscale=enlarge(2)), NotAllowed, "upscale", "takes none"),
        (given("flux", control=(ControlUse(model_id="c", image=IMAGE),)), NotAllowed, "control", "takes none"),
        (given(mask_image=MASK), FieldNeeded, "init_image", "mask_image"),
        (given(strength=0.5), FieldNeeded, "init_image", "strength"),
        (given(init_image=IMAGE, strength=0.2), OutOfBounds, "strength", "between 0.25 and 1"),
        (
            given(steps=2, upscale=enlarge(2, 0.35)),
            OutOfBounds,
            "upscale/strength",
            "between 0.5 and 1",
        ),
        (given(upscale=UpscaleInput(factor=2, tile_px=68)), SizeNotSupported, None, "68x68"),
        (given(upscale=UpscaleInput(factor=2, tile_px=16)), OutOfBounds, "upscale/tile_px", "between 32 and"),
        (
            given(upscale=UpscaleInput(factor=2, tile_px=64, tile_overlap_px=33)),
            OutOfBounds,
            "upscale/tile_overlap_px",
            "between 0 and 32",
        ),
        (given(upscale=UpscaleInput(factor=2, tile_overlap_px=8)), FieldNeeded, "upscale/tile_px", "blended"),
        (
            given(upscale=UpscaleInput(factor=2, tile_px=64, method="latent")),
            NotAllowed,
            "upscale/method (with upscale/tile_px)",
            "latent",
        ),
        (
            given(upscale=UpscaleInput(factor=2, tile_px=64), seamless="x"),
            NotAllowed,
            "seamless (with upscale/tile_px)",
            "x",
        ),
        (given(upscale=enlarge(4.5)), OutOfBounds, "upscale/factor", "between 1 and 4"),
        (given(upscale=UpscaleInput(factor=2, steps=2000)), OutOfBounds, "upscale/steps", "between 1 and"),
        (given(upscale=UpscaleInput(factor=2, prompt="")), OutOfBounds, "upscale/prompt (characters)", "between 1"),
        (given(upscale=UpscaleInput(factor=2, sampler="flow_heun")), NotAllowed, "upscale/sampler", "euler_a"),
        (given(upscale=UpscaleInput(factor=2, prompt="b <lora:l>")), FieldNeeded, "loras", "both passes"),
        (given(upscale=UpscaleInput(factor=2, prompt="<lora:l>")), FieldNeeded, "upscale/prompt", "empty"),
        (given(upscale=UpscaleInput(factor=2, steps=1, strength=0.5)), OutOfBounds, "upscale/strength", "1"),
        (
            given(width_px=1024, height_px=1024, upscale=enlarge(4)),
            OutOfBounds,
            "upscale (pixels)",
            "4.1943e+06",
        ),
        (given(vae="c"), UnknownAsset, "vae", "no registered vae; those that fit: v"),
        (given("flux", vae="v"), AssetMismatch, "vae", "'flux'"),
        (given("synthetic", vae="v"), NotAllowed, "vae", "takes none"),
        (given(loras=(LoraUse(model_id="x"),)), UnknownAsset, "loras/0/model_id", "those that fit: l"),
        (given(loras=(LoraUse(model_id="c"),)), UnknownAsset, "loras/0/model_id", "no registered lora"),
        (given(loras=(LoraUse(model_id="l"),) * 2), NamedTwice, "loras/1/model_id", "named before"),
        (given("flux", loras=(LoraUse(model_id="l"),)), AssetMismatch, "loras/0/model_id", "'flux'"),
        (given("flux", loras=(LoraUse(model_id="l"),)), AssetMismatch, "loras/0/model_id", "'stable-diffusion'"),
    ],
)
def test_what_a_model_does_not_take_is_refused(
    values: Given, kind: type[InvalidInput], field: str | None, words: str
) -> None:
    with pytest.raises(kind) as caught:
        resolve(values, MODELS, Limits())
    assert words in str(caught.value)
    assert caught.value.details().get("field") == field


def test_a_request_of_before_there_could_be_several_controlnets_means_the_same() -> None:
    use = ControlUse(model_id="c", image=IMAGE, scale=0.5)
    recorded = RenderRequest(**vars(resolve(given(), MODELS, Limits()))).model_dump(mode="json")
    alone = RenderRequest.model_validate_json(json.dumps(recorded | {"control": use.model_dump()}))
    assert alone.control == (use,)
    assert alone == resolve(given(control=(use,), resize_mode="stretch"), MODELS, Limits()).model_copy(
        update={"resize_mode": None}
    )
    assert "start" not in alone.model_dump_json()
    assert RenderRequest.model_validate(recorded | {"control": None}).control == ()
    body: Any = create_model("Body", __config__=ConfigDict(strict=True), control=input_fields(Limits())["control"])
    assert body.model_validate_json(json.dumps({"control": use.model_dump()})).control == (use,)


def test_the_memory_of_every_controlnet_counts_and_of_one_that_is_used_twice_once() -> None:
    large = asset("large", "stable-diffusion", "controlnet").model_copy(
        update={"vram": VRAM.model_copy(update={"resident_bytes": 1000})}
    )
    models = MODELS | {"large": large}
    nets = [(), ("c",), ("c", "large"), ("large", "large")]
    uses = [tuple(ControlUse(model_id=net, image=IMAGE) for net in each) for each in nets]
    requests = [resolve(given(control=each), models, Limits()) for each in uses]
    none, *others = (required_bytes(needs_of(request), models) for request in requests)
    assert [each - none for each in others] == [1, 1001, 1000]


@pytest.mark.parametrize(
    ("uses", "values", "field", "words"),
    [
        ([{"start": 0.5, "end": 0.5}], {"steps": 4}, "control/0/end (of 4 steps)", "between 0.75 and 1"),
        ([{}, {"start": 0.6, "end": 0.2}], {"steps": 10}, "control/1/end (of 10 steps)", "between 0.7 and 1"),
        ([{"start": 0.95}], {"steps": 4}, "control/0/start (of 4 steps)", "between 0 and 0.75"),
        ([{"end": 0.2}], {"steps": 10, "init_image": IMAGE, "strength": 0.4}, "control/0/end (of 4 steps)", "0.25"),
        ([{}] * 4, {}, "control (number)", "between 0 and 3"),
        ([{"model_id": "l"}], {}, "control/0/model_id", "no registered controlnet"),
    ],
)
def test_a_controlnet_that_acts_in_no_step_is_refused(
    uses: list[dict[str, Any]], values: Given, field: str, words: str
) -> None:
    control = tuple(ControlUse.model_validate({"model_id": "c", "image": IMAGE} | use) for use in uses)
    with pytest.raises(InvalidInput, match=words) as refused:
        resolve(given(**values, control=control), MODELS, Limits())
    assert refused.value.details()["field"] == field


@pytest.mark.parametrize(
    ("family", "layers", "most"),
    [("stable-diffusion", None, 11), ("stable-diffusion", 3, 2), ("stable-diffusion-xl", 12, 10), ("flux", 12, None)],
)
def test_clip_skip_is_bounded_by_the_text_encoder(family: str, layers: int | None, most: int | None) -> None:
    model = pipeline(family).model_copy(update={"text_encoder_layers": layers})
    properties = request_schema(model, Limits())["properties"]
    assert properties.get("clip_skip", {}).get("maximum") == most
    asked = {"prompt": "x", "seed": 1, "clip_skip": (most or 0) + 1}
    with pytest.raises((OutOfBounds, NotAllowed)):
        resolve(asked, {family: model}, Limits())
