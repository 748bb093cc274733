"""Images beside the prompt, through each interface that has a form for them, rendered by a tiny IP-Adapter."""

import asyncio
import base64
import io
import json
import os
import subprocess
import sys
from typing import Any

import httpx
import pytest
from PIL import Image
from system_testkit.live_stack import LiveStack

from dreamforge.runtime.testing import eventually

ADAPTER, EDITOR = "tiny-ip-adapter", "tiny-flux-kontext"
SMALL = {"model_id": "tiny", "prompt": "a fox", "seed": 7, "steps": 2, "width_px": 64, "height_px": 64}


def png(colour: str) -> bytes:
    image = Image.new("RGB", (64, 64), colour)
    image.paste("white", (8, 8, 24, 24))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


async def uploaded(stack: LiveStack, colour: str) -> str:
    """The hash by which a request names it."""
    return str((await stack.request("POST", "/v1/uploads", content=png(colour))).json()["sha256"])


async def rendered(stack: LiveStack, **changes: Any) -> tuple[str, bytes]:
    """A job that has succeeded, and the pixels of its image."""
    job = await stack.finished(await stack.submit(**SMALL | changes), 60)
    assert job["status"] == "succeeded", job
    data = (await stack.request("GET", job["artifacts"][0]["url"])).content
    return job["job_id"], pixels(data)


def pixels(data: bytes) -> bytes:
    return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


def command(stack: LiveStack, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "dreamforge.cli", *arguments],
        cwd=stack.folder,
        env=os.environ | {"FORGE_GATEWAY_URL": str(stack.client.base_url), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_a_rerun_shows_the_images_again_and_gives_the_same_bytes(stack: LiveStack) -> None:
    shown = [
        {"model_id": ADAPTER, "image": await uploaded(stack, "red"), "scale": 0.8},
        {"model_id": ADAPTER, "image": await uploaded(stack, "lime"), "scale": 0.6, "end": 0.5},
    ]
    _, plain = await rendered(stack)
    job_id, image = await rendered(stack, image_prompts=shown)
    assert image != plain
    again = await asyncio.to_thread(command, stack, "rerun", job_id, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout).items() >= {"same_bytes": True, "changes": []}.items()


def comfyui_graph(name: str, scheduler: str, **more: dict[str, Any]) -> dict[str, Any]:
    """Text to image; `more` are further nodes, of which "model" and "positive" stand before the sampler's."""
    settings = {"seed": 7, "steps": 2, "cfg": 1, "sampler_name": "euler", "scheduler": scheduler, "denoise": 1}
    links = {
        "model": ["model", 0] if "model" in more else ["4", 0],
        "positive": ["positive", 0] if "positive" in more else ["6", 0],
        "negative": ["7", 0],
        "latent_image": ["5", 0],
    }
    return {
        "3": {"class_type": "KSampler", "inputs": settings | links},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": name}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "fox", "images": ["8", 0]}},
        **more,
    }


async def comfyui_image(client: httpx.AsyncClient, graph: dict[str, Any]) -> bytes:
    """The pixels of what a workflow has saved."""
    accepted = await client.post("/prompt", json={"prompt": graph})
    assert accepted.status_code == 200, accepted.text
    prompt_id = accepted.json()["prompt_id"]

    async def entry() -> Any:
        return (await client.get(f"/history/{prompt_id}")).json().get(prompt_id)

    found = await eventually(entry, 60)
    assert found["status"]["status_str"] == "success", found["status"]
    (image,) = found["outputs"]["9"]["images"]
    return pixels((await client.get("/view", params=image)).content)


async def loaded(client: httpx.AsyncClient, colour: str) -> dict[str, Any]:
    """The node of an uploaded image."""
    files = {"image": (f"{colour}.png", png(colour), "image/png")}
    name = (await client.post("/upload/image", files=files)).json()["name"]
    return {"class_type": "LoadImage", "inputs": {"image": name}}


async def test_comfyuis_ip_adapter_nodes_render_what_the_request_itself_would(stack: LiveStack) -> None:
    client = stack.client
    found = (await client.get("/object_info/IPAdapterModelLoader")).json()["IPAdapterModelLoader"]
    assert found["input"]["required"]["ipadapter_file"][0] == [ADAPTER]

    async def shown(colour: str, weight: float) -> bytes:
        apply = {
            **{"model": ["4", 0], "ipadapter": ["11", 0], "image": ["10", 0], "weight": weight},
            **{"weight_type": "linear", "combine_embeds": "concat", "embeds_scaling": "V only"},
            **{"start_at": 0, "end_at": 1},
        }
        more = {
            "10": await loaded(client, colour),
            "11": {"class_type": "IPAdapterModelLoader", "inputs": {"ipadapter_file": ADAPTER}},
            "model": {"class_type": "IPAdapterAdvanced", "inputs": apply},
        }
        return await comfyui_image(client, comfyui_graph("tiny", "normal", **more))

    plain = await comfyui_image(client, comfyui_graph("tiny", "normal"))
    red = await shown("red", 0.8)
    assert len({plain, red, await shown("lime", 0.8), await shown("red", 0.4)}) == 4
    prompts = [{"model_id": ADAPTER, "image": await uploaded(stack, "red"), "scale": 0.8}]
    assert red == (await rendered(stack, guidance_scale=1, sampler="euler", image_prompts=prompts))[1]


async def test_comfyuis_references_are_edited(stack: LiveStack) -> None:
    client = stack.client

    async def edited(colour: str) -> bytes:
        more = {
            "10": await loaded(client, colour),
            "11": {"class_type": "FluxKontextImageScale", "inputs": {"image": ["10", 0]}},
            "12": {"class_type": "VAEEncode", "inputs": {"pixels": ["11", 0], "vae": ["4", 2]}},
            "positive": {"class_type": "ReferenceLatent", "inputs": {"conditioning": ["6", 0], "latent": ["12", 0]}},
        }
        return await comfyui_image(client, comfyui_graph(EDITOR, "simple", **more))

    plain = await comfyui_image(client, comfyui_graph(EDITOR, "simple"))
    assert len({plain, await edited("red"), await edited("lime")}) == 3


@pytest.mark.parametrize("module", ["ip-adapter-auto", "none"])
async def test_a1111s_units_with_an_ip_adapter_render_what_the_request_itself_would(
    stack: LiveStack, module: str
) -> None:
    client = stack.client
    titles = (await client.get("/controlnet/model_list")).json()["model_list"]
    (title,) = (each for each in titles if each.startswith(ADAPTER))

    async def shown(colour: str, **more: Any) -> bytes:
        unit = {"model": title, "module": module, "image": base64.b64encode(png(colour)).decode(), **more}
        body = {
            **{"prompt": "a fox", "seed": 7, "steps": 2, "width": 64, "height": 64, "cfg_scale": 2},
            **{"sampler_name": "Euler", "override_settings": {"sd_model_checkpoint": "tiny"}},
            "alwayson_scripts": {"controlnet": {"args": [unit]}},
        }
        answer = await client.post("/sdapi/v1/txt2img", json=body)
        assert answer.status_code == 200, answer.text
        return pixels(base64.b64decode(answer.json()["images"][0]))

    red = await shown("red", weight=0.8)
    half = await shown("red", weight=0.8, guidance_end=0.5)
    assert len({red, half, await shown("lime", weight=0.8)}) == 3
    prompts = [{"model_id": ADAPTER, "image": await uploaded(stack, "red"), "scale": 0.8}]
    assert red == (await rendered(stack, guidance_scale=2, sampler="euler", image_prompts=prompts))[1]
