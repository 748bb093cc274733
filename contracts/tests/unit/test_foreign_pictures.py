"""Each program's pictures become the same value; what has no counterpart is named, and nothing is made up."""

import json
from typing import Any

import pytest

from dreamforge.contracts.models.descriptor import EPSILON_SAMPLERS, FLOW_SAMPLERS, SamplerName
from dreamforge.contracts.pictures.exif import USER_COMMENT
from dreamforge.contracts.pictures.foreign.a1111 import request_of, split_infotext
from dreamforge.contracts.pictures.foreign.imported import ImportedLora, ImportedModel, ImportedRequest
from dreamforge.contracts.pictures.foreign.ours import PLAIN
from dreamforge.contracts.pictures.foreign.read import read_request
from dreamforge.contracts.pictures.infotext import infotext
from dreamforge.contracts.pictures.metadata import PictureMetadata
from dreamforge.contracts.pictures.samplers import A1111_SAMPLERS, sampler_named
from dreamforge.contracts.request.parameters import RequestParameters


def read(**texts: Any) -> ImportedRequest:
    """What texts of a PNG say; objects are JSON."""
    named = {name: text if isinstance(text, str) else json.dumps(text) for name, text in texts.items()}
    found = read_request(PictureMetadata("image/png", named))
    assert found is not None
    return found


def unmapped(found: ImportedRequest) -> dict[str, str]:
    return {each.name: each.value for each in found.unmapped}


A1111 = (
    "a castle on a hill, (sharp:1.2) <lora:castle-v2:0.8> <lora:ink>\n"
    "in the evening\n"
    "Negative prompt: blurry,\nugly\n"
    "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 12345, Size: 512x768, "
    "Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, VAE: vae-ft-mse, Denoising strength: 0.4, Clip skip: 2, "
    'Hires upscale: 2, Hires steps: 10, Hires upscaler: Latent, Lora hashes: "castle-v2: 0c3b2d1e4f5a, ink: 1a2b", '
    "Version: v1.10.1"
)


def test_a_text_of_a1111_is_mapped_by_its_names():
    found = read(parameters=A1111)
    assert found.tool == "A1111"
    assert found.fields == {
        "prompt": "a castle on a hill, (sharp:1.2)  \nin the evening",
        "negative_prompt": "blurry,\nugly",
        "steps": 20,
        "guidance_scale": 7.0,
        "seed": 12345,
        "width_px": 512,
        "height_px": 768,
        "upscale": {"factor": 2.0, "strength": 0.4, "steps": 25, "method": "latent"},
    }
    assert (found.sampler, found.schedule, found.clip_layer) == ("DPM++ 2M", "Karras", 2)
    assert found.model == ImportedModel("v1-5-pruned-emaonly", "6ce0161689")
    assert found.loras == (ImportedLora("castle-v2", 0.8, "0c3b2d1e4f5a"), ImportedLora("ink", 1.0, "1a2b"))
    assert unmapped(found) == {"VAE": "vae-ft-mse"}


def test_values_with_commas_are_read_whole():
    text = (
        'a\nSteps: 4, Seed: 1, Civitai resources: [{"type":"lora","weight":0.7}, {"a": "b, c"}], '
        'Hashes: {"model": "abc"}, Note: "x, \\"y\\": z", Size: 8x16'
    )
    _, _, values = split_infotext(text)
    assert values["Civitai resources"] == '[{"type":"lora","weight":0.7}, {"a": "b, c"}]'
    assert (values["Note"], values["Size"]) == ('x, "y": z', "8x16")


def test_a_text_without_values_is_no_request():
    assert request_of("Photo by a person: all rights reserved") is None
    assert request_of("Camera: x, Lens: y, Iso: 100") is None
    assert read_request(PictureMetadata("image/png", {"parameters": "{not json"})) is None
    assert read_request(PictureMetadata(None)) is None


def test_what_a_tag_has_more_is_named():
    found = request_of(
        "x <lora:a:0.5:lbw=FACE> <hypernet:h:1> \\<lora:text> <lyco:b:te=0.3:unet=1>\nSteps: 1, Seed: 2, Size: 8x8"
    )
    assert found is not None
    assert found.loras == (ImportedLora("a", 0.5), ImportedLora("b", 1.0, text_weight=0.3))
    assert found.fields["prompt"] == "x   \\<lora:text>"
    assert [each.value for each in found.unmapped] == ["<lora:a:0.5:lbw=FACE>", "<hypernet:h:1>"]


def test_a_strength_without_its_image_is_no_field():
    found = request_of("x\nSteps: 1, Seed: 2, Denoising strength: 0.5")
    assert found is not None
    assert "strength" not in found.fields
    assert "init_image" in found.unmapped[0].reason


def test_forge_is_told_by_its_version():
    text = (
        "x\nSteps: 4, Sampler: Euler, Schedule type: Simple, Distilled CFG Scale: 3.5, Seed: 1, Version: f2.0.1v1.10.1"
    )
    found = read(parameters=text)
    assert (found.tool, found.sampler, found.schedule) == ("Forge", "Euler", "Simple")
    assert unmapped(found) == {"Distilled CFG Scale": "3.5"}


RECIPE: dict[str, Any] = {
    "format": 1, "renderer": "diffusers", "prompt": "a fox [red] <lora:x>", "negative_prompt": "", "seed": 3,
    "width_px": 64, "height_px": 48, "steps": 5, "guidance_scale": 2.5, "sampler": "DPMSolverMultistepScheduler",
    "model_id": "m", "model_digest": "ab" * 32, "pipeline": "P", "device": "cpu", "device_name": "c",
        "dtype": "float32",
    "threads": 1, "versions": {"torch": "2"}, "clip_skip": 1, "loras": [{"model_id": "ink", "digest": "cd" * 32,
        "weight": 0.5}],
    "upscale": {"width_px": 128, "height_px": 96, "strength": 0.3}, "init_image": "ef" * 32, "strength": 0.6,
}  # fmt: skip


def test_our_recipe_is_exact_and_the_text_beside_it_names_the_sampler():
    found = read(dreamforge=RECIPE, parameters=infotext(RECIPE, "dpmpp_2m_karras"))
    assert found.tool == "Dream Forge"
    assert found.fields == {
        "prompt": "a fox [red] <lora:x>",
        "steps": 5,
        "guidance_scale": 2.5,
        "width_px": 64,
        "height_px": 48,
        "seed": 3,
        "clip_skip": 1,
        "init_image": "ef" * 32,
        "strength": 0.6,
        "upscale": {"factor": 2.0, "strength": 0.3},
    }
    assert (found.sampler, found.schedule, found.model.hash) == ("DPM++ 2M", "Karras", "ab" * 32)
    assert found.loras == (ImportedLora("ink", 0.5, "cd" * 32),)
    assert found.unmapped == ()


TRANSLATED = {
    *(
        "model_id",
        "prompt",
        "negative_prompt",
        "sampler",
        "loras",
        "embeddings",
        "image_prompts",
        "control",
        "vae",
        "upscale",
    ),
    "masked_area",
}
#: Of a job and not of an image, or known by another parameter of the recipe.
NOT_IN_RECIPES = {
    *("preset", "images", "determinism", "geometry", "optimisations", "allow_quantised", "duration_seconds"),
}


def test_every_parameter_of_a_recipe_is_read_back():
    assert {*PLAIN, *TRANSLATED} == RequestParameters.model_fields.keys() - NOT_IN_RECIPES
    used = {name: f"a {name}" for name in PLAIN}
    embedding = {"model_id": "easy", "word": "easy"}
    found = read(dreamforge=RECIPE | used | {"embeddings": [embedding | {"digest": "e" * 64}]})
    assert found.fields["embeddings"] == [embedding]
    assert {name: found.fields.get(name) for name in PLAIN} == used


def test_our_text_alone_counts_layers_as_it_was_written():
    found = request_of(infotext(RECIPE))
    assert found is not None
    assert (found.tool, found.fields["clip_skip"], found.clip_layer) == ("Dream Forge", 1, None)


INVOKE = {
    "app_version": "5.6.0", "generation_mode": "sdxl_txt2img", "positive_prompt": "a fox++", "negative_prompt": "blur",
    "width": 1024, "height": 832, "seed": 42, "rand_device": "cpu", "cfg_scale": 5.5, "steps": 30,
    "scheduler": "dpmpp_2m_k", "clip_skip": 0, "cfg_rescale_multiplier": 0.0, "seamless_x": False,
    "model": {"key": "k", "hash": "blake3:ab12", "name": "Juggernaut XL v9", "base": "sdxl", "type": "main"},
    "loras": [{"model": {"key": "l", "hash": "blake3:cd", "name": "pixel-art", "base": "sdxl", "type": "lora"},
        "weight": 0.75}],
    "ipAdapters": [], "controlnets": [{"control_weight": 1}],
}  # fmt: skip


def test_invokeai_of_today_and_of_before():
    found = read(invokeai_metadata=INVOKE)
    assert found.tool == "InvokeAI"
    assert found.fields == {
        "prompt": "a fox++",
        "negative_prompt": "blur",
        "steps": 30,
        "seed": 42,
        "width_px": 1024,
        "height_px": 832,
        "guidance_scale": 5.5,
    }
    assert (found.sampler, found.clip_layer) == ("dpmpp_2m_k", 1)
    assert found.model == ImportedModel("Juggernaut XL v9", "blake3:ab12")
    assert found.loras == (ImportedLora("pixel-art", 0.75, "blake3:cd"),)
    assert set(unmapped(found)) == {"positive_prompt", "controlnets"}
    three = {
        "model": {"model_name": "old", "base_model": "sd-1"},
        "loras": [{"lora": {"model_name": "l"}, "weight": 1}],
    }
    found = read(invokeai_metadata=INVOKE | three)
    assert (found.model.name, found.loras) == ("old", (ImportedLora("l", 1.0),))
    two = {
        "model": "stable diffusion", "model_weights": "sd-1.5", "model_hash": "cc6cb27103", "app_version": "2.3.5",
        "image": {"prompt": [{"prompt": "a fox [blur]", "weight": 1.0}], "steps": 50, "cfg_scale": 7.5, "seed": 9,
                  "width": 512, "height": 512, "sampler": "k_euler_a", "threshold": 0},
    }  # fmt: skip
    found = read(**{"sd-metadata": two, "Dream": '"a fox [blur]" -s 50'})
    assert (found.fields["prompt"], found.fields["negative_prompt"], found.sampler) == ("a fox", "blur", "k_euler_a")
    assert found.model == ImportedModel("sd-1.5", "cc6cb27103")


@pytest.mark.parametrize(
    "command",
    [
        '"a fox, -s curve [blur]" -s 50 -S 123 -W 512 -H 768 -C 7.5 --karras_max 29 -A k_lms '
        "-G 0.8 -ft gfpgan -U 2 0.75",
        "a fox, -s curve [blur] -s50 -b1 -W512 -H768 -C7.5 -mk_lms -S123 -G0.8 --karras_max 29 -U 2 0.75 -ft gfpgan",
    ],
)
def test_invokeai_of_the_command_line(command):
    found = read(Dream=command)
    assert (found.tool, found.sampler) == ("InvokeAI", "k_lms")
    assert found.fields == {
        "prompt": "a fox, -s curve",
        "negative_prompt": "blur",
        "steps": 50,
        "seed": 123,
        "width_px": 512,
        "height_px": 768,
        "guidance_scale": 7.5,
    }
    assert {each.name: each.value for each in found.unmapped} == {
        "-G": "0.8",
        "-ft": "gfpgan",
        "-U": "2 0.75",
        "--karras_max": "29",
    }


@pytest.mark.parametrize("text", ["", "a fox", "-s", '"a fox" -S 5', "-s 5"])
def test_a_dream_that_is_no_command_says_nothing(text):
    assert read_request(PictureMetadata("image/png", {"Dream": text})) is None


SWARM = {
    "sui_image_params": {
        "prompt": "a fox", "negativeprompt": "blur", "model": "OfficialStableDiffusion/sd_xl_base_1.0", "seed": 5,
        "steps": 20, "cfgscale": 7.0, "aspectratio": "1:1", "width": 1024, "height": 1024, "sampler": "euler_ancestral",
        "scheduler": "normal", "loras": ["art/ink"], "loraweights": ["0.6"], "clipstopatlayer": "-2",
        "refinerupscale": 1.5, "refinercontrolpercentage": 0.4, "refinermethod": "PostApply",
        "refinerupscalemethod": "pixel-lanczos", "automaticvae": True, "swarm_version": "0.9.6.1",
    },
    "sui_extra_data": {"date": "2026-01-02", "generation_time": "1 s"},
    "sui_models": [{"name": "OfficialStableDiffusion/sd_xl_base_1.0.safetensors", "param": "model", "hash": "0xd7a9"},
                   {"name": "art/ink.safetensors", "param": "loras", "hash": "0xbeef"}],
}  # fmt: skip


@pytest.mark.parametrize("in_exif", [False, True])
def test_swarmui_in_a_text_or_in_a_comment(in_exif: bool):
    text = json.dumps(SWARM)
    comment = {USER_COMMENT: b"UNICODE\0" + text.encode("utf-16-be")}
    found = read_request(PictureMetadata("image/jpeg", exif=comment)) if in_exif else read(parameters=text)
    assert found is not None
    assert found.tool == "SwarmUI"
    assert found.fields == {
        "prompt": "a fox",
        "negative_prompt": "blur",
        "steps": 20,
        "seed": 5,
        "width_px": 1024,
        "height_px": 1024,
        "guidance_scale": 7.0,
        "upscale": {"factor": 1.5, "strength": 0.4},
    }
    assert (found.sampler, found.schedule, found.clip_layer) == ("euler_ancestral", "normal", 2)
    assert found.model == ImportedModel("OfficialStableDiffusion/sd_xl_base_1.0", "d7a9")
    assert found.loras == (ImportedLora("art/ink", 0.6, "beef"),)
    assert unmapped(found) == {"refinerupscalemethod": "pixel-lanczos"}


FOOOCUS = {
    "adm_guidance": "(1.5, 0.8, 0.3)", "base_model": "juggernautXL_v8Rundiffusion", "base_model_hash": "AEB7E9E689",
    "clip_skip": 2, "full_negative_prompt": ["blur", "ugly"], "full_prompt": ["cinematic still a fox", "a fox, sharp"],
    "guidance_scale": 4.0, "lora_combined_1": "offset : 0.1", "loras": [["offset", 0.1, "4852686128"]],
    "metadata_scheme": "fooocus", "negative_prompt": "", "performance": "Speed", "prompt": "a fox",
    "refiner_model": "None", "refiner_switch": 0.5, "resolution": "(1152, 896)", "sampler": "dpmpp_2m_sde_gpu",
    "scheduler": "karras", "seed": "8", "sharpness": 2.0, "steps": 30, "styles": "['Fooocus V2']",
    "vae": "Default (model)", "version": "Fooocus v2.5.5",
}  # fmt: skip


def test_fooocus_has_the_prompt_that_was_rendered():
    found = read(parameters=FOOOCUS, fooocus_scheme="fooocus")
    assert found.tool == "Fooocus"
    assert found.fields == {
        "prompt": "cinematic still a fox, a fox, sharp",
        "negative_prompt": "blur, ugly",
        "steps": 30,
        "seed": 8,
        "guidance_scale": 4.0,
        "width_px": 1152,
        "height_px": 896,
    }
    assert (found.sampler, found.schedule, found.clip_layer) == ("dpmpp_2m_sde_gpu", "karras", 2)
    assert found.model == ImportedModel("juggernautXL_v8Rundiffusion", "aeb7e9e689")
    assert found.loras == (ImportedLora("offset", 0.1, "4852686128"),)
    assert set(unmapped(found)) == {"adm_guidance", "sharpness"}


def test_fooocus_in_exif_is_plain_text():
    exif = {USER_COMMENT: json.dumps(FOOOCUS).encode() + b"\0"}
    found = read_request(PictureMetadata("image/webp", exif=exif))
    assert found is not None
    assert found.tool == "Fooocus"


def test_novelai_with_its_characters():
    comment = {
        "prompt": "a fox, {{sharp}}", "steps": 28, "height": 1216, "width": 832, "scale": 5.0, "uncond_scale": 0.0,
        "cfg_rescale": 0.2, "seed": 77, "n_samples": 1, "noise_schedule": "karras", "sampler": "k_dpmpp_2m",
        "sm": False,
        "uc": "lowres", "request_type": "PromptGenerateRequest", "signed_hash": "x",
        "v4_prompt": {"caption": {"base_caption": "a fox", "char_captions": [{"char_caption": "a hat",
        "centers": []}]}},
    }  # fmt: skip
    found = read(
        Title="NovelAI generated image",
        Description="a fox",
        Software="NovelAI",
        Source="NovelAI Diffusion V4 37442FCA",
        Comment=comment,
    )
    assert (found.tool, found.sampler, found.schedule) == ("NovelAI", "k_dpmpp_2m", "karras")
    assert found.fields == {
        "prompt": "a fox, {{sharp}}",
        "negative_prompt": "lowres",
        "steps": 28,
        "seed": 77,
        "width_px": 832,
        "height_px": 1216,
        "guidance_scale": 5.0,
    }
    assert unmapped(found) == {"prompt": "a fox, {{sharp}}", "char_caption": "a hat", "cfg_rescale": "0.2"}


@pytest.mark.parametrize(
    ("name", "schedule", "ours"),
    [
        ("DPM++ 2M", "", "dpmpp_2m_karras"),  # A1111's own choice
        ("DPM++ 2M", "Uniform", "dpmpp_2m"),
        ("DPM++ 2M Karras", "", "dpmpp_2m_karras"),
        ("dpmpp_2m_k", "", "dpmpp_2m_karras"),
        ("k_euler_ancestral", "native", "euler_a"),
        ("euler", "normal", "euler"),
        ("euler", "karras", None),
        ("dpmpp_3m_sde", "karras", None),
        ("uni_pc", "normal", "unipc"),
        ("sample_dpmpp_2m", "normal", "dpmpp_2m"),
    ],
)
def test_a_sampler_is_known_by_the_names_of_every_program(name: str, schedule: str, ours: str | None):
    assert sampler_named(name, schedule, EPSILON_SAMPLERS) == ours


def test_flow_models_have_samplers_of_their_own():
    assert sampler_named("euler", "simple", FLOW_SAMPLERS) == "flow_euler"
    assert sampler_named("Euler", "", FLOW_SAMPLERS) == "flow_euler"


@pytest.mark.parametrize("ours", A1111_SAMPLERS)
def test_a_sampler_that_we_write_is_read_as_itself(ours: SamplerName):
    name, schedule = A1111_SAMPLERS[ours]
    family = FLOW_SAMPLERS if ours in FLOW_SAMPLERS else EPSILON_SAMPLERS
    assert sampler_named(name, schedule, family, automatic=False) == ours
