"""OpenAI's parameters become those of a job, or are refused by the name that the client has sent."""

from typing import Any

import pytest

from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.gateway.facades.openai.errors import openai_error
from dreamforge.gateway.facades.openai.forms import images_of
from dreamforge.gateway.facades.openai.partial_images import PartialImages
from dreamforge.gateway.facades.openai.translate import edited, preset_for, translate, variation
from dreamforge.gateway.http.errors import InvalidRequest, Violation
from dreamforge.gateway.http.problems import Problem, problem_of


def preset(name: str, steps: int) -> Preset:
    return Preset(name=name, width_px=64, height_px=64, steps=steps, guidance_scale=2.0)


PRESETS = (preset("normal", 20), preset("fast", 4), preset("best", 50))
MODEL = ModelDescriptor(
    model_id="m",
    family="stable-diffusion",
    digest="0" * 64,
    vram=VramProfile(resident_bytes=2**30, denoise_bytes_per_latent=1, decode_bytes_per_px=1),
    presets=PRESETS,
)


def fields_of(**body: Any) -> dict[str, Any]:
    return dict(translate({"prompt": "a fox", **body}, {"m": MODEL}, {"dall-e-3": "m"}).fields)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {}),
        ({"n": 2, "size": "auto", "user": "u", "moderation": "low", "style": None}, {"images": 2}),
        ({"size": "96x64"}, {"width_px": 96, "height_px": 64}),
        ({"model": "dall-e-3"}, {"model_id": "m"}),
        ({"model": "other"}, {"model_id": "other"}),
        ({"quality": "high"}, {"preset": "best"}),
        ({"quality": "low"}, {"preset": "fast"}),
        ({"quality": "fast"}, {"preset": "fast"}),
        ({"quality": "auto"}, {}),
        ({"output_format": "webp", "output_compression": 80}, {"output_format": "webp", "output_quality": 80}),
        ({"seed": 7, "negative_prompt": "blue"}, {"seed": 7, "negative_prompt": "blue"}),
    ],
)
def test_a_parameter_has_its_counterpart(body: dict[str, Any], fields: dict[str, Any]) -> None:
    assert fields_of(**body) == {"prompt": "a fox", **fields}


@pytest.mark.parametrize(
    ("body", "name", "says"),
    [
        ({"size": "large"}, "size", "WIDTHxHEIGHT"),
        ({"size": 64}, "size", "WIDTHxHEIGHT"),
        ({"quality": "ultra"}, "quality", "low, medium, high, normal, fast, best"),
        ({"quality": ["low"]}, "quality", "must be one of"),
        ({"background": "transparent"}, "background", "auto, opaque"),
        ({"response_format": "file"}, "response_format", "b64_json, url"),
        ({"output_format": "gif"}, "output_format", "png, jpeg, webp"),
        ({"partial_images": 9}, "partial_images", "0 to 3"),
        ({"partial_images": True}, "partial_images", "0 to 3"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"style": "vivid"}, "style", "in the prompt"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_its_own_name(body: dict[str, Any], name: str, says: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        fields_of(**body)
    error: Any = openai_error(problem_of(refused.value))["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", name)
    assert says in error["message"]


def test_several_wrong_fields_are_told_at_once() -> None:
    with pytest.raises(InvalidRequest) as refused:
        fields_of(size="large", quality="ultra", style="vivid")
    assert [each.pointer for each in refused.value.violations] == ["/size", "/quality", "/style"]


def test_our_names_in_errors_become_those_that_were_sent() -> None:
    problem = Problem(422, "out_of_bounds", "", "images is 99", (Violation("is 99", "/images"),))
    assert openai_error(problem)["error"] == {
        "message": "images is 99",
        "type": "invalid_request_error",
        "param": "n",
        "code": "out_of_bounds",
    }
    kinds = {status: openai_error(Problem(status, "c", "", ""))["error"]["type"] for status in (401, 429, 503)}  # type: ignore[index]
    assert kinds == {401: "authentication_error", 429: "rate_limit_error", 503: "server_error"}


def test_a_quality_is_a_place_among_the_presets_by_steps() -> None:
    assert [preset_for(quality, PRESETS) for quality in ("low", "medium", "high", "hd", "standard")] == [
        *("fast", "normal", "best", "best"),
        None,
    ]
    assert preset_for("medium", PRESETS[:1]) == "normal"


def test_a_variation_keeps_what_it_is_given() -> None:
    assert variation({"n": 2})["prompt"]
    assert variation({"strength": 0.2})["strength"] == 0.2


def test_one_image_is_edited() -> None:
    assert images_of({"image": [b"a"], "mask": [b"m"]}, 1) == ([b"a"], b"m")
    for files in ({}, {"image": [b"a", b"b"]}, {"image": [b"a"], "mask": [b"m", b"m"]}, {"image": [b"a"], "x": [b""]}):
        with pytest.raises(InvalidRequest):
            images_of(files, 1)


def test_a_model_that_takes_instructions_gets_several_images_as_its_references() -> None:
    editor = MODEL.model_copy(update={"family": "qwen-image-edit-plus"})
    assert images_of({"image": [b"a", b"b"]}, editor.capabilities.references_max) == ([b"a", b"b"], None)
    with pytest.raises(InvalidRequest, match="may be given 3 times"):
        images_of({"image": [b"a"] * 4}, editor.capabilities.references_max)
    assert edited(editor, ["1", "2"], None) == {"references": ["1", "2"]}
    assert edited(MODEL, ["1"], "m") == {"init_image": "1", "mask_image": "m"}
    assert edited(None, ["1"], None) == {"init_image": "1"}
    with pytest.raises(InvalidRequest, match="told in the prompt what to change"):
        edited(editor, ["1"], "m")


@pytest.mark.parametrize(("wanted", "steps"), [(0, []), (1, [5]), (2, [4, 7]), (3, [3, 5, 8])])
def test_previews_are_spread_over_the_steps_of_each_image(wanted: int, steps: list[int]) -> None:
    for image in range(2):
        previews = PartialImages(wanted)
        events = [
            {"image_index": image, "step": step, "steps": 10, "preview": "data:image/jpeg;base64,QQ=="}
            for step in range(1, 11)
        ]
        taken = [event["step"] for event in events if previews.take(event)]
        assert taken == steps
    assert PartialImages(3).take({"image_index": 0, "step": 9, "steps": 10, "preview": None}) is None


def test_a_model_of_videos_is_refused_by_its_name() -> None:
    videos = MODEL.model_copy(update={"model_id": "clips", "family": "wan"})
    with pytest.raises(InvalidRequest) as refused:
        translate({"prompt": "a fox", "model": "clips"}, {"m": MODEL, "clips": videos}, {})
    (violation,) = refused.value.violations
    assert (violation.pointer, "POST /v1/jobs" in violation.detail) == ("/model", True)
    assert "'clips' renders videos" in violation.detail
