"""An image prompt is checked against its adapter and its steps, and is part of what a job needs."""

import pytest

from dreamforge.contracts.models.descriptor import Kind, ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.placement import needs_of, required_bytes
from dreamforge.contracts.request.batch_key import batch_key
from dreamforge.contracts.request.errors import AssetMismatch, NotAllowed, OutOfBounds, UnknownAsset
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.request.resolve import inputs_of, resolve
from dreamforge.contracts.request.values import ImagePromptUse

IMAGE = "a" * 64
PRESET = Preset(name="p", width_px=64, height_px=64, steps=4, guidance_scale=2.0)


def model(model_id: str, family: str, kind: Kind, weights_bytes: int = 1) -> ModelDescriptor:
    vram = VramProfile(resident_bytes=weights_bytes, denoise_bytes_per_latent=1, decode_bytes_per_px=1)
    presets = (PRESET,) if kind == "pipeline" else ()
    return ModelDescriptor(model_id=model_id, family=family, kind=kind, digest="0" * 64, vram=vram, presets=presets)


MODELS = {
    each.model_id: each
    for each in (
        model("sd", "stable-diffusion", "pipeline"),
        model("flux", "flux", "pipeline"),
        model("redux", "flux", "ip_adapter"),
        model("sd3", "stable-diffusion-3", "pipeline"),
        model("plus", "stable-diffusion", "ip_adapter", 1_000),
        model("xl-plus", "stable-diffusion-xl", "ip_adapter"),
        model("canny", "stable-diffusion", "controlnet"),
    )
}


def resolved(*uses: dict[str, object], model_id: str = "sd", **given: object) -> RenderRequest:
    prompts = tuple(ImagePromptUse.model_validate({"model_id": "plus", "image": IMAGE} | use) for use in uses)
    return resolve({"prompt": "a", "seed": 1, "model_id": model_id, "image_prompts": prompts} | given, MODELS, Limits())


def test_a_request_with_image_prompts_needs_their_adapters_and_images_once() -> None:
    request = resolved({"scale": 0.5}, {"end": 0.5})
    assert (request.assets, request.uploads) == (("plus",), (IMAGE,))
    assert batch_key(request) not in (None, batch_key(resolved({"scale": 0.5})), batch_key(resolved()))
    needed = [required_bytes(needs_of(each), MODELS) for each in (request, resolved())]
    assert needed[0] - needed[1] == 1_000, "the adapter with its encoder, once"
    assert resolve(inputs_of(request) | {"image_prompts": request.image_prompts}, MODELS, Limits()) == request
    assert "image_prompts" not in resolved().model_dump_json()


@pytest.mark.parametrize(
    ("uses", "values", "error", "says"),
    [
        ([{"model_id": "xl-plus"}], {}, AssetMismatch, "image_prompts/0/model_id"),
        (
            [{}, {"model_id": "canny"}],
            {},
            UnknownAsset,
            "image_prompts/1/model_id is 'canny', which is no registered ip_adapter",
        ),
        ([{"start": 0.5, "end": 0.5}], {}, OutOfBounds, r"image_prompts/0/end \(of 4 steps\)"),
        ([{"end": 0.4}], {"init_image": IMAGE, "strength": 0.5}, OutOfBounds, r"image_prompts/0/end \(of 2 steps\)"),
        ([{}] * 5, {}, OutOfBounds, r"image_prompts \(number\)"),
        ([{}], {"model_id": "sd3"}, NotAllowed, "image_prompts"),
        ([{"model_id": "redux", "end": 0.5}], {"model_id": "flux"}, NotAllowed, "image_prompts/0/end"),
    ],
)
def test_an_image_prompt_that_does_not_fit_is_refused_by_its_field(
    uses: list[dict[str, object]], values: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        resolved(*uses, **values)  # type: ignore[arg-type]  # fields of a request
