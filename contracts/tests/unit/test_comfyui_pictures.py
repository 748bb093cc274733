"""A graph of ComfyUI is followed from its last sampler; what has no counterpart is named."""

import json
from typing import Any

import pytest

from dreamforge.contracts.pictures.exif import MODEL
from dreamforge.contracts.pictures.foreign.imported import ImportedLora
from dreamforge.contracts.pictures.foreign.read import read_request
from dreamforge.contracts.pictures.metadata import PictureMetadata

from .test_foreign_pictures import read, unmapped


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


GRAPH = {
    "3": node("KSampler", seed=2**60, steps=25, cfg=6.5, sampler_name="dpmpp_2m", scheduler="karras", denoise=1.0,
              model=["11", 0], positive=["20", 0], negative=["20", 1], latent_image=["5", 0]),
    "4": node("CheckpointLoaderSimple", ckpt_name="SDXL\\sd_xl_base_1.0.safetensors"),
    "5": node("EmptyLatentImage", width=["30", 0], height=1152, batch_size=1),
    "30": node("PrimitiveInt", value=896),
    "6": node("CLIPTextEncode", text=["31", 0], clip=["12", 0]),
    "31": node("PrimitiveString", value="a (red:1.1) fox [sic]"),
    "7": node("CLIPTextEncode", text="blurry", clip=["12", 0]),
    "8": node("VAEDecode", samples=["15", 0], vae=["4", 2]),
    "9": node("SaveImage", filename_prefix="x", images=["8", 0]),
    "10": node("LoraLoader", lora_name="first.safetensors", strength_model=0.7, strength_clip=0.7, model=["4", 0],
        clip=["4", 1]),
    "11": node("LoraLoaderModelOnly", lora_name="second.safetensors", strength_model=-0.5, model=["10", 0]),
    "12": node("CLIPSetLastLayer", stop_at_clip_layer=-3, clip=["10", 1]),
    "14": node("LatentUpscaleBy", upscale_method="nearest-exact", scale_by=1.5, samples=["3", 0]),
    "15": node("KSampler", seed=1, steps=10, cfg=6.5, sampler_name="dpmpp_2m", scheduler="karras", denoise=0.5,
               model=["11", 0], positive=["6", 0], negative=["7", 0], latent_image=["14", 0]),
    "20": node("ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], control_net=["21", 0], image=["22",
        0], strength=0.9),
    "21": node("ControlNetLoader", control_net_name="canny.safetensors"),
    "22": node("LoadImage", image="edges.png"),
}  # fmt: skip


def test_a_graph_of_comfyui_is_followed_from_its_last_sampler():
    found = read(prompt=GRAPH, workflow={"nodes": []})
    assert found.tool == "ComfyUI"
    assert found.fields == {
        "seed": 2**60,
        "steps": 25,
        "guidance_scale": 6.5,
        "prompt": "a (red:1.1) fox [sic]",
        "negative_prompt": "blurry",
        "width_px": 896,
        "height_px": 1152,
        "upscale": {"factor": 1.5, "strength": 0.5, "seed": 1, "steps": 20},
    }
    assert (found.sampler, found.schedule, found.clip_layer, found.has_literal_brackets) == (
        "dpmpp_2m",
        "karras",
        3,
        True,
    )
    assert found.model.name == "SDXL\\sd_xl_base_1.0.safetensors"
    second = ImportedLora("second.safetensors", -0.5, text_weight=0.0)
    assert found.loras == (ImportedLora("first.safetensors", 0.7), second)
    assert set(unmapped(found)) == {
        "node 20 (ControlNetApplyAdvanced)",
        "node 21 (ControlNetLoader)",
        "node 22 (LoadImage)",
    }


def test_of_several_outputs_the_one_with_the_most_passes_is_taken():
    early = {"0": node("SaveImage", images=["00", 0]), "00": node("VAEDecode", samples=["3", 0], vae=["4", 2])}
    assert read(prompt=early | GRAPH) == read(prompt=GRAPH)


def test_a_sampler_in_parts_is_one_sampler():
    graph = {
        "1": node("SamplerCustomAdvanced", noise=["2", 0], guider=["3", 0], sampler=["4", 0], sigmas=["5", 0],
        latent_image=["6", 0]),
        "2": node("RandomNoise", noise_seed=7), "4": node("KSamplerSelect", sampler_name="euler"),
        "3": node("BasicGuider", model=["7", 0], conditioning=["8", 0]),
        "5": node("BasicScheduler", scheduler="simple", steps=28, denoise=1.0, model=["7", 0]),
        "6": node("EmptySD3LatentImage", width=1024, height=768, batch_size=1),
        "7": node("UNETLoader", unet_name="flux1-dev.safetensors", weight_dtype="default"),
        "8": node("FluxGuidance", guidance=3.5, conditioning=["9", 0]), "9": node("CLIPTextEncode", text="a fox",
        clip=["10", 0]),
        "10": node("DualCLIPLoader", clip_name1="t5", clip_name2="l"), "11": node("VAEDecode", samples=["1", 0],
        vae=["12", 0]),
        "12": node("VAELoader", vae_name="ae"), "13": node("SaveImage", images=["11", 0]),
    }  # fmt: skip
    found = read(prompt=graph)
    assert found.fields == {
        "seed": 7,
        "steps": 28,
        "guidance_scale": 3.5,
        "prompt": "a fox",
        "width_px": 1024,
        "height_px": 768,
    }
    assert (found.sampler, found.schedule, found.model.name) == ("euler", "simple", "flux1-dev.safetensors")
    assert found.unmapped == ()


@pytest.mark.parametrize("kind", ["ModelSamplingSD3", "ModelSamplingAuraFlow"])
def test_the_last_shift_before_the_sampler_is_the_flows(kind: str):
    graph = GRAPH | {
        "15": node("KSampler", **GRAPH["15"]["inputs"] | {"model": ["41", 0]}),
        "3": node("KSampler", **GRAPH["3"]["inputs"] | {"model": ["41", 0]}),
        "41": node(kind, shift=3.1, model=["40", 0]),
        "40": node(kind, shift=9.0, model=["11", 0]),
    }
    found = read(prompt=graph)
    assert found.fields["flow_shift"] == 3.1
    assert found.model == read(prompt=GRAPH).model


def test_a_graph_in_webp_is_in_exif_and_its_start_image_is_named():
    graph = {
        "1": node("KSampler", seed=1, steps=4, cfg=2, sampler_name="euler", scheduler="normal", denoise=0.6,
                  model=["2", 0], positive=["3", 0], negative=["4", 0], latent_image=["5", 0]),
        "2": node("CheckpointLoaderSimple", ckpt_name="m.ckpt"), "3": node("CLIPTextEncode", text="a", clip=["2", 1]),
        "4": node("ConditioningZeroOut", conditioning=["3", 0]), "5": node("VAEEncode", pixels=["6", 0], vae=["2", 2]),
        "6": node("LoadImage", image="start.png"), "7": node("VAEDecode", samples=["1", 0]), "8": node("SaveImage",
        images=["7", 0]),
    }  # fmt: skip
    exif = {MODEL: b"prompt:" + json.dumps(graph).encode() + b"\0"}
    found = read_request(PictureMetadata("image/webp", exif=exif))
    assert found is not None
    assert "negative_prompt" not in found.fields
    assert "strength" not in found.fields
    assert {"node 6 (LoadImage)": "start.png", "denoise": "0.6"}.items() <= unmapped(found).items()
