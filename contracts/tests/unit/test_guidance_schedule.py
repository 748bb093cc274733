"""A schedule says each step's scale, is checked at submission, and is recorded where it changes something."""

from typing import Any

import pytest
from pydantic import ValidationError

from dreamforge.contracts.errors import InvalidInput
from dreamforge.contracts.models.descriptor import FAMILY_PARAMETERS, ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.models.family_defaults import without_guidance
from dreamforge.contracts.request.guidance_schedule import UNGUIDED, GuidanceSchedule
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.request.resolve import inputs_of, resolve
from dreamforge.contracts.request.schema import request_schema
from dreamforge.contracts.request.values import ControlUse, UpscaleInput

VRAM = VramProfile(resident_bytes=1, denoise_bytes_per_latent=1, decode_bytes_per_px=1)
PRESET = Preset(name="p", width_px=64, height_px=64, steps=10, guidance_scale=5.0)
IMAGE = "a" * 64
CONTROL = (ControlUse(model_id="c", image=IMAGE),)


def model(model_id: str, **changes: Any) -> ModelDescriptor:
    values = {"model_id": model_id, "family": model_id, "digest": "0" * 64, "vram": VRAM, "presets": (PRESET,)}
    return ModelDescriptor(**values | changes)


MODELS = {
    each.model_id: each
    for each in (
        model("stable-diffusion"),
        model("flux"),
        model("c", family="stable-diffusion", kind="controlnet", presets=()),
    )
}


def schedule(**fields: Any) -> GuidanceSchedule:
    return GuidanceSchedule.model_validate({"shape": "constant"} | fields)


def resolved(fields: dict[str, Any], limits: Limits | None = None, **others: Any) -> RenderRequest:
    given = {"prompt": "a", "seed": 1, "model_id": "stable-diffusion", "guidance_schedule": schedule(**fields)}
    return resolve(given | others, MODELS, limits or Limits())


@pytest.mark.parametrize(
    ("fields", "scales"),
    [
        ({}, [5, 5, 5, 5, 5]),
        ({"start": 0.4, "end": 0.8}, [1, 1, 5, 5, 1]),
        ({"shape": "linear", "to": 9}, [5, 6, 7, 8, 9]),
        ({"shape": "linear", "to": 0, "end": 0.6}, [5, 2.5, 0, 1, 1]),
        ({"shape": "cosine", "to": 1}, [5, 4.414, 3, 1.586, 1]),
        ({"shape": "cosine", "to": 9, "start": 0.8}, [1, 1, 1, 1, 5]),
    ],
)
def test_each_step_has_its_scale(fields: dict[str, Any], scales: list[float]) -> None:
    made = schedule(**fields)
    assert [made.scale_at(step, 5, 5.0) for step in range(5)] == pytest.approx(scales, abs=1e-3)


def test_without_a_step_inside_nothing_is_guided() -> None:
    assert {schedule(start=0.5, end=0.5).scale_at(step, 3, 5.0) for step in range(3)} == {UNGUIDED}


@pytest.mark.parametrize(
    "fields",
    [
        {"to": 2.0},
        {"shape": "linear"},
        {"shape": "cosine"},
        {"shape": "quadratic", "to": 2.0},
        {"shape": "linear", "to": float("nan")},
        {"shape": "linear", "to": float("inf")},
        {"shape": "linear", "to": -1.0},
        {"start": float("nan")},
        {"start": -0.1},
        {"end": 1.1},
    ],
)
def test_what_is_no_schedule_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        schedule(**fields)


@pytest.mark.parametrize(
    ("fields", "others", "field", "words"),
    [
        ({"start": 0.5, "end": 0.5}, {}, "guidance_schedule/end (of 10 steps)", "between 0.6 and 1"),
        ({"start": 0.95}, {}, "guidance_schedule/start (of 10 steps)", "between 0 and 0.9"),
        ({"end": 0.2}, {"init_image": IMAGE, "strength": 0.4}, "guidance_schedule/end (of 4 steps)", "0.25"),
        ({"end": 0.1}, {"init_image": IMAGE}, "guidance_schedule/end (of 8 steps)", "0.125"),
        (
            {"end": 0.2},
            {"upscale": UpscaleInput(factor=2, strength=0.3)},
            "guidance_schedule in the second pass/end (of 3 steps)",
            "between 0.33",
        ),
        ({"shape": "linear", "to": 200.0}, {}, "guidance_schedule/to", "between 0 and 100"),
        ({"end": 0.5}, {"control": CONTROL}, "guidance_schedule (with control)", "takes none"),
        ({"end": 0.5}, {"model_id": "flux"}, "guidance_schedule", "takes none"),
    ],
)
def test_what_could_not_be_rendered_is_refused_with_what_would_be_right(
    fields: dict[str, Any], others: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words) as refused:
        resolved(fields, **others)
    assert refused.value.details()["field"] == field


def test_the_limit_of_the_gateway_holds_for_the_scale_that_it_goes_to() -> None:
    with pytest.raises(InvalidInput, match="between 0 and 8"):
        resolved({"shape": "linear", "to": 9.0}, Limits(guidance_scale=8))


@pytest.mark.parametrize("fields", [{}, {"shape": "linear", "to": 5.0}, {"shape": "cosine", "to": 5.0}])
def test_one_that_changes_nothing_is_recorded_as_none(fields: dict[str, Any]) -> None:
    assert resolved(fields) == resolve({"prompt": "a", "seed": 1, "model_id": "stable-diffusion"}, MODELS, Limits())


def test_one_that_changes_only_the_second_pass_is_recorded() -> None:
    request = resolved({"shape": "linear", "to": 5.0}, upscale=UpscaleInput(factor=2, guidance_scale=3.0))
    assert request.guidance_schedule == schedule(shape="linear", to=5.0)


def test_a_request_says_it_again() -> None:
    request = resolved({"shape": "cosine", "to": 2.0, "end": 0.8})
    assert inputs_of(request)["guidance_schedule"] == {"shape": "cosine", "to": 2.0, "start": 0.0, "end": 0.8}
    assert RenderRequest.model_validate_json(request.model_dump_json()) == request


def test_only_families_that_can_offer_it_with_their_own_bounds() -> None:
    able = {family for family, can in FAMILY_PARAMETERS.items() if can.guidance_schedule}
    assert able == {"stable-diffusion", "stable-diffusion-2", "stable-diffusion-xl", "stable-diffusion-3"}
    assert not without_guidance("stable-diffusion-xl").guidance_schedule
    narrow = FAMILY_PARAMETERS["stable-diffusion"].model_copy(update={"guidance_scale_max": 12.0})
    offered = request_schema(model("stable-diffusion", parameters=narrow), Limits())["properties"]["guidance_schedule"]
    assert offered["properties"]["to"]["maximum"] == 12
    assert "guidance_schedule" not in request_schema(MODELS["flux"], Limits())["properties"]
