"""Workflows of ComfyUI for its tests, and what becomes of them."""

from typing import Any

import pytest

from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.gateway.facades.comfyui.graph import read_graph
from dreamforge.gateway.facades.comfyui.refusals import comfy_error
from dreamforge.gateway.facades.comfyui.translate import Translation, translate
from dreamforge.gateway.http.errors import WorkflowRefused
from dreamforge.gateway.http.problems import problem_of

Graph = dict[str, Any]


def model(model_id: str, family: str = "stable-diffusion", **changes: Any) -> ModelDescriptor:
    return ModelDescriptor(
        model_id=model_id,
        family=family,
        digest="0" * 64,
        vram=VramProfile(resident_bytes=2**30, denoise_bytes_per_latent=1, decode_bytes_per_px=1),
        presets=(Preset(name="p", width_px=512, height_px=512, steps=20, guidance_scale=2.0),),
        **changes,
    )


MODELS = {
    each.model_id: each
    for each in (
        model("sd", title="Stable Diffusion"),
        model("sdxl", "stable-diffusion-xl"),
        model("flux", "flux"),
        model("film", kind="lora"),
        model("ink", kind="lora"),
        model("canny", kind="controlnet"),
        model("soft", kind="vae"),
    )
}
IMAGE, OTHER = "a" * 64, "b" * 64


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def text_to_image() -> Graph:
    """The workflow that ComfyUI opens with."""
    sampler = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}
    settings = {"seed": 7, "steps": 20, "cfg": 8, "sampler_name": "euler", "scheduler": "normal", "denoise": 1}
    return {
        "3": node("KSampler", **sampler, **settings),
        "4": node("CheckpointLoaderSimple", ckpt_name="sd.safetensors"),
        "5": node("EmptyLatentImage", width=512, height=768, batch_size=2),
        "6": node("CLIPTextEncode", text="a fox [in snow]", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="text, watermark", clip=["4", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="ComfyUI"),
    }


def changed(*changes: tuple[str, str, Any], **added: dict[str, Any]) -> Graph:
    graph = text_to_image() | {name.removeprefix("n"): each for name, each in added.items()}
    for node_id, name, value in changes:
        graph[node_id]["inputs"][name] = value
    return graph


def translated(graph: Graph) -> Translation:
    return translate(read_graph(graph), MODELS)


def fields_of(graph: Graph) -> dict[str, Any]:
    return dict(translated(graph).fields)


def refusal_of(graph: Any) -> dict[str, Any]:
    with pytest.raises(WorkflowRefused) as refused:
        translated(graph)
    return dict(comfy_error(problem_of(refused.value)))


TEXT = {
    "model_id": "sd",
    "prompt": "a fox \\[in snow\\]",
    "negative_prompt": "text, watermark",
    "seed": 7,
    "steps": 20,
    "sampler": "euler",
    "guidance_scale": 8.0,
    "width_px": 512,
    "height_px": 768,
    "images": 2,
}


def control(class_type: str, **inputs: Any) -> Graph:
    more = {"control_net": ["30", 0], "image": ["31", 0], "strength": 0.7, **inputs}
    return changed(
        ("3", "positive", ["32", 0]),
        n30=node("ControlNetLoader", control_net_name="canny"),
        n31=node("LoadImage", image=f"{IMAGE}.png"),
        n32=node(class_type, **more),
    )
