"""A1111's requests become those of a job, or are refused by the name that the client has sent."""

import base64
import io
from datetime import UTC, datetime
from typing import Any

import pytest
from PIL import Image

from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.pictures.infotext import infotext
from dreamforge.contracts.pictures.samplers import sampler_named
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.preprocessing import Preprocessing, preprocessors
from dreamforge.gateway.facades.a1111 import answers
from dreamforge.gateway.facades.a1111.errors import a1111_error
from dreamforge.gateway.facades.a1111.modules import MODULES, module_list
from dreamforge.gateway.facades.a1111.names import named
from dreamforge.gateway.facades.a1111.png_info import parsed
from dreamforge.gateway.facades.a1111.translate import A1111Request, from_image, from_text
from dreamforge.gateway.facades.a1111.upscalers import extras_of, finished_size, job_of
from dreamforge.gateway.facades.runs import UnfinishedJob
from dreamforge.gateway.http.errors import InvalidRequest, Violation
from dreamforge.gateway.http.problems import Problem, problem_of
from dreamforge.gateway.submit.image_tasks import MaskChange
from dreamforge.gateway.submit.inspect_image import changed_mask

VRAM = VramProfile(resident_bytes=2**30, denoise_bytes_per_latent=1, decode_bytes_per_px=1)
PRESET = Preset(name="p", width_px=64, height_px=64, steps=4, guidance_scale=2.0)


def model(model_id: str, digit: str, family: str = "stable-diffusion", **more: Any) -> ModelDescriptor:
    return ModelDescriptor(model_id=model_id, family=family, digest=digit * 64, vram=VRAM, **more)


MODELS = {
    "m": model("m", "0", presets=(PRESET,)),
    "flux-dev": model("flux-dev", "1", "flux", presets=(PRESET,)),
    "canny": model("canny", "2", kind="controlnet"),
    "ink": model("ink", "3", kind="lora"),
    "soft": model("soft", "4", kind="vae"),
    "face": model("face", "7", kind="ip_adapter"),
    "easy": model("easy", "6", kind="embedding"),
    "x4": model("x4", "5", "esrgan", kind="upscaler", scale=4, presets=(PRESET,)),
}


def encoded(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


PNG = base64.b64encode(encoded(Image.new("RGB", (8, 8)))).decode()
# What webuiapi, SillyTavern, LibreChat and Open WebUI send besides what their users set.
WEBUIAPI = {
    **{"enable_hr": False, "hr_scale": 2, "hr_upscaler": "Latent", "hr_second_pass_steps": 0, "hr_resize_x": 0},
    **{"hr_resize_y": 0, "hr_checkpoint_name": None, "hr_sampler_name": None, "hr_scheduler": None, "hr_prompt": ""},
    **{"hr_negative_prompt": "", "denoising_strength": 0.7, "firstphase_width": 0, "firstphase_height": 0},
    **{"prompt": "a fox", "styles": [], "seed": -1, "subseed": -1, "subseed_strength": 0.0, "seed_resize_from_h": 0},
    **{"seed_resize_from_w": 0, "batch_size": 1, "n_iter": 1, "steps": 20, "cfg_scale": 7.0, "width": 64, "height": 64},
    **{"restore_faces": False, "tiling": False, "do_not_save_samples": False, "do_not_save_grid": False},
    **{"negative_prompt": "", "eta": 1.0, "s_churn": 0, "s_tmax": 0, "s_tmin": 0, "s_noise": 1},
    **{"override_settings": {}, "override_settings_restore_afterwards": True, "sampler_name": "Euler a"},
    **{"scheduler": "automatic", "sampler_index": "Euler a", "script_name": None, "script_args": []},
    **{"send_images": True, "save_images": False, "alwayson_scripts": {}},
}
SILLYTAVERN = {
    **{"url": "http://127.0.0.1:8080", "auth": "me:secret", "prompt": "a fox", "negative_prompt": "blue"},
    **{"sampler_name": "DDIM", "scheduler": "automatic", "steps": 20, "cfg_scale": 7, "width": 64, "height": 64},
    **{"restore_faces": False, "enable_hr": False, "hr_upscaler": "Latent", "hr_scale": 1, "hr_additional_modules": []},
    **{"denoising_strength": 0.7, "hr_second_pass_steps": 0, "override_settings": {"CLIP_stop_at_last_layers": 1}},
    **{"override_settings_restore_afterwards": True, "clip_skip": 1, "save_images": True, "send_images": True},
    **{"do_not_save_grid": False, "do_not_save_samples": False},
}
LIBRECHAT = {"prompt": "a fox", "negative_prompt": "blue", "cfg_scale": 4.5, "steps": 22, "width": 64, "height": 64}
OPEN_WEBUI = {"prompt": "a fox", "batch_size": 2, "width": 64, "height": 64, "steps": 20, "negative_prompt": "blue"}


def text(**body: Any) -> A1111Request:
    return from_text({"prompt": "a fox", **body}, MODELS, None)


def picture(**body: Any) -> A1111Request:
    return from_image({"prompt": "a fox", "init_images": [PNG], **body}, MODELS, None)


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (WEBUIAPI, {"sampler": "euler_a", "guidance_scale": 7.0, "negative_prompt": "", "steps": 20}),
        (SILLYTAVERN, {"sampler": "ddim", "guidance_scale": 7.0, "negative_prompt": "blue", "steps": 20}),
        (LIBRECHAT, {"guidance_scale": 4.5, "negative_prompt": "blue", "steps": 22}),
        (OPEN_WEBUI, {"images": 2, "negative_prompt": "blue", "steps": 20}),
    ],
)
def test_what_a_client_always_sends_asks_for_nothing_more(body: dict[str, Any], more: dict[str, Any]) -> None:
    made = from_text(body, MODELS, None)
    assert made.fields == {"prompt": "a fox", "model_id": "m", "width_px": 64, "height_px": 64, **more}
    assert "auth" not in made.echoed


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {}),
        ({"seed": "7", "n_iter": 2, "batch_size": 3, "steps": "9"}, {"seed": 7, "images": 6, "steps": 9}),
        ({"sampler_index": "DPM++ 2M Karras"}, {"sampler": "dpmpp_2m_karras"}),
        ({"sampler_name": "DPM++ 2M", "scheduler": "Uniform"}, {"sampler": "dpmpp_2m"}),
        ({"sampler_name": "DDIM", "scheduler": "normal"}, {"sampler": "ddim"}),
        ({"sampler_name": "DPM++ 2M"}, {"sampler": "dpmpp_2m_karras"}),
        ({"sampler_name": "", "scheduler": "Karras"}, {}),
        ({"override_settings": {"sd_model_checkpoint": "flux-dev.safetensors [1111111111]"}}, {"model_id": "flux-dev"}),
        ({"override_settings": {"sd_model_checkpoint": "1111111111"}}, {"model_id": "flux-dev"}),
        ({"override_settings": {"CLIP_stop_at_last_layers": 2, "sd_vae": "Automatic"}}, {"clip_skip": 1}),
        (
            {"override_settings": {"samples_format": "jpg", "jpeg_quality": 80}},
            {"output_format": "jpeg", "output_quality": 80},
        ),
        ({"override_settings": {"sd_vae": "soft.safetensors"}}, {"vae": "soft"}),
        ({"enable_hr": True, "denoising_strength": 0.4}, {"upscale": {"factor": 2.0, "strength": 0.4}}),
        (
            {"enable_hr": True, "denoising_strength": 0.5, "hr_second_pass_steps": 10, "hr_sampler_name": "Euler a",
             "hr_prompt": "two", "hr_negative_prompt": "red", "hr_cfg": 3, "hr_scheduler": "Use same scheduler"},
            {"upscale": {"factor": 2.0, "strength": 0.5, "steps": 20, "sampler": "euler_a", "prompt": "two",
                         "negative_prompt": "red", "guidance_scale": 3.0}},
        ),
        (
            {"enable_hr": True, "hr_second_pass_steps": 7, "sampler_name": "DPM++ 2M", "scheduler": "Uniform",
             "hr_scheduler": "Karras"},
            {"sampler": "dpmpp_2m", "upscale": {"factor": 2.0, "strength": 0.35, "steps": 20,
                                                "sampler": "dpmpp_2m_karras"}},
        ),
        ({"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Lanczos"}, {"upscale": {"factor": 1.5}}),
        ({"enable_hr": True, "hr_upscaler": "Latent"}, {"upscale": {"factor": 2.0, "method": "latent"}}),
        ({"enable_hr": True, "hr_upscaler": "X4"}, {"upscale": {"factor": 2.0, "model_id": "x4"}}),
        (
            {"enable_hr": True, "width": 64, "height": 32, "hr_resize_x": 128, "hr_resize_y": 64},
            {"width_px": 64, "height_px": 32, "upscale": {"factor": 2.0}},
        ),
    ],
)  # fmt: skip
def test_a_parameter_has_its_counterpart(body: dict[str, Any], fields: dict[str, Any]) -> None:
    assert text(**body).fields == {"prompt": "a fox", "model_id": "m", **fields}


def test_a_model_of_videos_is_refused_by_its_name() -> None:
    models = {"clips": model("clips", "6", "ltx", presets=(PRESET,))}
    for ask in (lambda: from_text({}, models, None), lambda: from_image({"init_images": [PNG]}, models, "clips")):
        with pytest.raises(InvalidRequest) as refused:
            ask()
        assert any("'clips' renders videos" in each.detail for each in refused.value.violations)


def test_the_selected_model_counts_while_there_is_one() -> None:
    assert from_text({}, MODELS, "flux-dev").fields["model_id"] == "flux-dev"
    assert from_text({}, MODELS, "removed").fields["model_id"] == "m"
    assert "model_id" not in from_text({}, {}, None).fields
    chosen = {"override_settings": {"sd_model_checkpoint": "m"}}
    assert not text(**chosen).keeps_model
    assert text(**chosen, override_settings_restore_afterwards=False).keeps_model


def test_an_image_is_rendered_anew() -> None:
    made = picture()
    assert made.fields["strength"] == 0.75
    assert made.fields["resize_mode"] == "stretch"
    assert made.images["init_image"] == base64.b64decode(PNG)
    assert picture(denoising_strength=0.4, resize_mode=2).fields["resize_mode"] == "fit"
    assert picture(init_images=[f"data:image/png;base64,{PNG}"]).images == made.images


def test_a_mask_is_changed_as_a1111_does() -> None:
    made = picture(mask=PNG, inpainting_fill=1, inpaint_full_res=False, inpainting_mask_invert=1, mask_blur=2)
    assert made.mask_change == MaskChange(rounded=True, inverted=True, blur_x_px=2.0, blur_y_px=2.0)
    assert picture(mask=PNG).mask_change == MaskChange(rounded=True, blur_x_px=4.0, blur_y_px=4.0)
    drawn = Image.new("L", (32, 32), 0)
    drawn.paste(200, (0, 0, 16, 32))

    def shown(**change: Any) -> list[int]:
        with Image.open(io.BytesIO(changed_mask(encoded(drawn), MaskChange(**change), Limits()))) as mask:
            return [int(mask.getpixel((x, 16))) for x in (1, 14, 17, 30)]  # type: ignore[arg-type]

    assert shown() == [200, 200, 0, 0]
    assert shown(rounded=True) == [255, 255, 0, 0]
    assert shown(rounded=True, inverted=True) == [0, 0, 255, 255]
    blurred = shown(rounded=True, blur_x_px=4.0)
    assert blurred[0] > blurred[1] > blurred[2] > blurred[3]
    assert shown(rounded=True, blur_y_px=4.0) == [255, 255, 0, 0]


def test_what_lies_below_a_mask_and_how_much_is_rendered_are_a1111s() -> None:
    assert picture(mask=PNG).fields.items() >= {"mask_fill": "fill", "masked_area": {"padding_px": 0}}.items()
    fills = [picture(mask=PNG, inpainting_fill=number).fields["mask_fill"] for number in range(4)]
    assert fills == ["fill", "original", "noise", "nothing"]
    assert picture(mask=PNG, inpaint_full_res_padding=32).fields["masked_area"] == {"padding_px": 32}
    assert "masked_area" not in picture(mask=PNG, inpaint_full_res=False).fields
    assert not {"mask_fill", "masked_area"} & picture().fields.keys()


UNIT = {"image": PNG, "model": "canny [22222222]", "module": "none", "weight": 0.7, "guidance_end": 1.0}


def test_a_unit_of_controlnet_is_followed() -> None:
    made = text(alwayson_scripts={"ControlNet": {"args": [{**UNIT, "resize_mode": "Crop and Resize"}]}})
    assert made.fields["control"] == [{"model_id": "canny", "scale": 0.7, "end": 1.0}]
    assert (made.fields["resize_mode"], made.unit_images) == ("crop", (("control", base64.b64decode(PNG)),))
    over = picture(alwayson_scripts={"controlnet": {"args": [{"model": "canny"}]}})
    assert over.unit_images == (("control", over.images["init_image"]),)
    off = {"ADetailer": {"args": [False]}, "ControlNet": {"args": [{**UNIT, "enabled": False}]}, "roop": {"args": []}}
    assert "control" not in text(alwayson_scripts=off).fields


@pytest.mark.parametrize(
    ("unit", "preprocess"),
    [
        ({"module": "canny"}, {"name": "canny", "sigma_px": 0.0, "low": 100, "high": 200}),
        ({"module": "Canny", "threshold_a": 64, "threshold_b": -1},
         {"name": "canny", "sigma_px": 0.0, "low": 64, "high": 200}),
        ({"module": "invert (from white bg & black line)", "threshold_a": 64}, {"name": "invert"}),
        ({"module": "lineart_standard (from white bg & black line)"}, {"name": "lineart"}),
        ({"module": "tile_resample", "threshold_a": 2}, {"name": "tile", "factor": 2}),
        ({"module": "blur_gaussian"}, {"name": "blur", "sigma_px": 9.0}),
    ],
)  # fmt: skip
def test_a_module_preprocesses_with_its_thresholds(unit: dict[str, Any], preprocess: dict[str, Any]) -> None:
    (use,) = text(alwayson_scripts={"ControlNet": {"args": [{**UNIT, **unit}]}}).fields["control"]
    assert use["preprocess"] == preprocess
    assert Preprocessing.model_validate(preprocess).completed().model_dump() == preprocess | (
        {} if preprocess["name"] != "lineart" else {"sigma_px": 6.0}
    )


def test_several_units_are_followed_in_their_order_and_each_in_its_steps() -> None:
    units = [{**UNIT, "guidance_start": 0.25}, {**UNIT, "enabled": False}, {**UNIT, "weight": 1, "guidance_end": 0.5}]
    made = text(alwayson_scripts={"ControlNet": {"args": units}})
    assert made.fields["control"] == [
        {"model_id": "canny", "scale": 0.7, "start": 0.25, "end": 1.0},
        {"model_id": "canny", "scale": 1.0, "end": 0.5},
    ]
    assert [into for into, _ in made.unit_images] == ["control"] * 2
    differ = [UNIT | {"resize_mode": 1}, UNIT | {"resize_mode": 2}]
    with pytest.raises(InvalidRequest) as refused:
        text(alwayson_scripts={"ControlNet": {"args": differ}})
    assert [each.pointer for each in refused.value.violations] == ["/alwayson_scripts/ControlNet/args/1/resize_mode"]


def test_a_unit_with_an_ip_adapter_is_an_image_prompt() -> None:
    adapter = {**UNIT, "model": "face [77777777]", "module": "ip-adapter_clip_h", "resize_mode": "Just Resize"}
    made = text(alwayson_scripts={"ControlNet": {"args": [adapter, {**UNIT, "resize_mode": 1}]}})
    assert made.fields["image_prompts"] == [{"model_id": "face", "scale": 0.7, "end": 1.0}]
    assert made.fields["control"] == [{"model_id": "canny", "scale": 0.7, "end": 1.0}]
    assert [into for into, _ in made.unit_images] == ["image_prompts", "control"]
    assert made.fields["resize_mode"] == "crop"  # that of the adapter has no effect
    for module in ("canny", "ip-adapter_face_id"):
        with pytest.raises(InvalidRequest) as refused:
            text(alwayson_scripts={"ControlNet": {"args": [adapter | {"module": module}]}})
        (wrong,) = refused.value.violations
        assert wrong.pointer == f"/{AT_UNIT}/module".replace(".", "/")
        assert "must be ip-adapter-auto or none" in wrong.detail


def test_the_listed_modules_are_those_that_are_taken() -> None:
    listed = module_list()
    assert listed["module_list"] == ["none", *listed["module_detail"]]
    assert {module.name for module in MODULES.values()} == set(preprocessors())


def unit(**more: Any) -> dict[str, Any]:
    return {"alwayson_scripts": {"ControlNet": {"args": [{**UNIT, **more}]}}}


AT_UNIT = "alwayson_scripts.ControlNet.args.0"


@pytest.mark.parametrize(
    ("body", "name", "says"),
    [
        ({"restore_faces": True}, "restore_faces", "leave it out"),
        ({"styles": ["photo"]}, "styles", "leave it out"),
        ({"subseed_strength": 0.2}, "subseed_strength", "leave it out"),
        ({"distilled_cfg_scale": 3.5}, "distilled_cfg_scale", "leave it out"),
        ({"script_name": "x/y/z plot"}, "script_name", "leave it out"),
        ({"eta": 0.5}, "eta", "or send 0 or 1"),
        ({"steps": "many"}, "steps", "integer"),
        ({"batch_size": 0}, "batch_size", "greater than or equal to 1"),
        ({"sampler_name": "LMS"}, "sampler_name", "model m takes: DDIM"),
        ({"sampler_name": "Euler", "scheduler": "Karras"}, "sampler_name", "with schedule 'Karras'"),
        ({"override_settings": {"sd_model_checkpoint": "no"}}, "override_settings.sd_model_checkpoint", "m [000"),
        ({"override_settings": {"sd_vae": "x.pt"}}, "override_settings.sd_vae", "Automatic, soft"),
        ({"override_settings": {"samples_format": "gif"}}, "override_settings.samples_format", "png, jpg"),
        ({"enable_hr": True, "hr_upscaler": "SwinIR"}, "hr_upscaler", "Latent (nearest), Latent (nearest-exact), x4"),
        ({"enable_hr": True, "hr_checkpoint_name": "other"}, "hr_checkpoint_name", "both passes have one model"),
        ({"enable_hr": True, "hr_sampler_name": "Restart"}, "hr_sampler_name", "takes: "),
        ({"enable_hr": True, "hr_resize_x": 128}, "hr_resize_x", "hr_scale"),
        ({"alwayson_scripts": {"ADetailer": {"args": [True]}}}, "alwayson_scripts.ADetailer", "not served"),
        (unit(module="depth_midas"), f"{AT_UNIT}.module", "none, canny, lineart_standard, invert"),
        (unit(model="depth"), f"{AT_UNIT}.model", "canny [22222222]"),
        (unit(control_mode="My prompt is more important"), f"{AT_UNIT}.control_mode", "or send 0 or 'Balanced'"),
        (unit(image=""), f"{AT_UNIT}.image", "missing"),
        (unit(resize_mode="Zoom"), f"{AT_UNIT}.resize_mode", "Crop and Resize"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_refused_by_its_own_name(body: dict[str, Any], name: str, says: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        text(**body)
    problem = problem_of(refused.value)
    error: Any = a1111_error(problem)
    assert (problem.status, error["body"]) == (422, "")
    assert error["detail"].startswith(name), error
    assert says in error["errors"]


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"init_images": []}, "init_images"),
        ({"init_images": [PNG, PNG]}, "init_images"),
        ({"init_images": ["http://10.0.0.1/a.png"]}, "init_images.0"),
        ({"init_images": ["?"]}, "init_images.0"),
        ({"resize_mode": 3}, "resize_mode"),
        ({"mask": PNG, "inpaint_full_res_padding": -1}, "inpaint_full_res_padding"),
        ({"mask": PNG, "inpainting_fill": 4}, "inpainting_fill"),
        ({"mask": PNG, "mask_blur": -1}, "mask_blur"),
        ({"initial_noise_multiplier": 0.5}, "initial_noise_multiplier"),
        (unit(resize_mode="Resize and Fill"), f"{AT_UNIT}.resize_mode"),
    ],
)
def test_what_an_image_cannot_have_is_refused_by_its_own_name(body: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        picture(**body)
    assert str(a1111_error(problem_of(refused.value))["detail"]).startswith(name)


def test_an_image_is_enlarged_by_an_upscaler_that_is_registered() -> None:
    asked, model = extras_of({"upscaler_1": "x4.safetensors", "upscaling_resize": 2, "gfpgan_visibility": 0}, MODELS)
    assert model.model_id == "x4"
    assert job_of(model, "a" * 64, finished_size(asked, (30, 20))) == {
        **{"model_id": "x4", "prompt": "", "init_image": "a" * 64, "resize_mode": "crop"},
        **{"width_px": 60, "height_px": 40},
    }
    for wrong, name in (
        ({"upscaler_1": "None"}, "upscaler_1"),
        ({"upscaler_1": "x4", "codeformer_visibility": 0.5}, "codeformer_visibility"),
        ({"upscaler_1": "x4", "extras_upscaler_2_visibility": 1}, "extras_upscaler_2_visibility"),
        ({"upscaler_1": "x4", "resize_mode": 2}, "resize_mode"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            extras_of(wrong, MODELS)
        assert str(a1111_error(problem_of(refused.value))["detail"]).startswith(name)


def test_several_wrong_fields_are_told_at_once_and_ours_have_their_names() -> None:
    with pytest.raises(InvalidRequest) as refused:
        text(restore_faces=True, s_churn=1, eta=3)
    assert str(a1111_error(problem_of(refused.value))["errors"]).count(";") == 2
    problem = Problem(422, "out_of_bounds", "A value", "", (Violation("width_px is 99, but must be 64", "/width_px"),))
    assert a1111_error(problem) == {
        "error": "A value",
        "detail": "width is 99, but must be 64",
        "body": "",
        "errors": "width is 99, but must be 64",
    }


def test_models_and_samplers_are_found_by_every_name_that_clients_have() -> None:
    models = list(MODELS.values())
    for name in ("flux-dev", "FLUX-DEV", "flux-dev [1111111111]", "flux-dev.safetensors", "1" * 64, "1" * 10):
        assert named(name, models) is MODELS["flux-dev"], name
    assert named("flux", models) is None
    assert sampler_named("Euler", "Automatic", ("flow_euler", "flow_heun")) == "flow_euler"
    for each in answers.samplers(MODELS):
        for name in (each["name"], *each["aliases"]):
            assert sampler_named(name, "automatic", (*MODELS["m"].capabilities.samplers, "flow_euler", "flow_heun"))
    assert [each["title"] for each in answers.sd_models(MODELS)] == ["m [0000000000]", "flux-dev [1111111111]"]
    assert [each["name"] for each in answers.loras(MODELS)] == ["ink"]
    assert answers.embeddings(MODELS)["loaded"].keys() == {"easy"}
    assert [each["name"] for each in answers.upscalers(MODELS)] == ["None", "Lanczos", "Nearest", "x4"]
    assert [each["name"] for each in answers.latent_upscale_modes(MODELS)][:2] == ["Latent", "Latent (antialiased)"]


def test_progress_is_that_of_the_first_job() -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    idle = answers.progress((), (), with_image=True)
    assert (idle["progress"], idle["state"]["job_count"], idle["current_image"]) == (0.0, 0, None)
    step = {"image_index": 1, "images": 2, "step": 5, "steps": 10, "eta_seconds": 3.0}
    shown = {**step, "step": 4, "preview": "data:image/jpeg;base64,QQ=="}
    jobs = (UnfinishedJob("j", running=True, images=2, requested_at=now),)
    busy = answers.progress(jobs, (shown, step), with_image=True)
    assert (busy["progress"], busy["eta_relative"], busy["current_image"]) == (0.75, 3.0, "QQ==")
    state = busy["state"]
    assert (state["job_no"], state["job_count"], state["sampling_step"], state["job_timestamp"]) == (
        *(1, 2, 5),
        "20260102030405",
    )
    assert answers.progress(jobs, (shown,), with_image=False)["current_image"] is None
    waiting = answers.progress((UnfinishedJob("j", running=False, images=1, requested_at=now),), (), with_image=True)
    assert 0 < waiting["progress"] < 0.1


def test_a_text_of_parameters_is_taken_apart() -> None:
    recipe = {
        **{"prompt": "a fox,\nred", "negative_prompt": "blue", "steps": 20, "sampler": "DDIMScheduler", "seed": 7},
        **{"guidance_scale": 2.5, "width_px": 64, "height_px": 32, "model_id": "m", "model_digest": "0" * 64},
        "loras": [{"model_id": "ink", "weight": 0.5, "digest": "3" * 64}],
    }
    found = parsed(infotext(recipe))
    assert found["Prompt"] == "a fox,\nred <lora:ink:0.5>"
    assert (found["Negative prompt"], found["Seed"], found["Sampler"]) == ("blue", "7", "DDIM")
    assert (found["Size-1"], found["Size-2"], found["Lora hashes"]) == ("64", "32", f"ink: {'3' * 12}")
    assert parsed("only a prompt: of one line") == {"Prompt": "only a prompt: of one line", "Negative prompt": ""}
