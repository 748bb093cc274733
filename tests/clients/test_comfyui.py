"""Clients of ComfyUI's classic API: the calls of Open WebUI and SillyTavern as they make them, and websockets."""

import asyncio
import io
import json
import shutil
import struct
import subprocess
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
import websockets
from PIL import Image

from dreamforge.runtime.testing import eventually


def workflow(model: str, **sampler: object) -> dict[str, Any]:
    """Open WebUI's default workflow, with a size and steps for a tiny model."""
    return {
        "3": {
            "inputs": {
                "seed": 0,
                "steps": 2,
                "cfg": 8,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1,
                "model": ["4", 0],
                "positive": ["6", 0],
                "negative": ["7", 0],
                "latent_image": ["5", 0],
                **sampler,
            },
            "class_type": "KSampler",
            "_meta": {"title": "KSampler"},
        },
        "4": {"inputs": {"ckpt_name": model}, "class_type": "CheckpointLoaderSimple"},
        "5": {"inputs": {"width": 64, "height": 64, "batch_size": 1}, "class_type": "EmptyLatentImage"},
        "6": {"inputs": {"text": "a fox", "clip": ["4", 1]}, "class_type": "CLIPTextEncode"},
        "7": {"inputs": {"text": "", "clip": ["4", 1]}, "class_type": "CLIPTextEncode"},
        "8": {"inputs": {"samples": ["3", 0], "vae": ["4", 2]}, "class_type": "VAEDecode"},
        "9": {"inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}, "class_type": "SaveImage"},
    }


def png(*, hole: bool = False) -> bytes:
    image = Image.new("RGBA", (64, 64), (200, 30, 30, 255))
    if hole:
        image.paste((0, 0, 0, 0), (16, 16, 48, 48))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest_asyncio.fixture(loop_scope="session")
async def client(gateway_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway_url, timeout=30) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def model(client: httpx.AsyncClient) -> str:
    found = (await client.get("/object_info/CheckpointLoaderSimple")).json()
    return str(found["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0][0])


async def ended(client: httpx.AsyncClient, prompt_id: str) -> dict[str, Any]:
    async def entry() -> Any:
        return (await client.get(f"/history/{prompt_id}")).json().get(prompt_id)

    found: dict[str, Any] = await eventually(entry, 60.0)
    return found


async def test_open_webui(client: httpx.AsyncClient, gateway_url: str, model: str) -> None:
    """`backend/open_webui/utils/images/comfyui.py`: a websocket, a prompt, the history, each image."""
    key = {"User-Agent": "Mozilla/5.0", "Authorization": "Bearer x"}
    client_id, graph = str(uuid.uuid4()), workflow(model)
    ws_url = gateway_url.replace("http://", "ws://")
    kinds: list[str] = []
    async with websockets.connect(f"{ws_url}/ws?clientId={client_id}", additional_headers=key) as socket:
        body = {"prompt": graph, "client_id": client_id}
        prompt_id = (await client.post("/prompt", json=body, headers=key)).json()["prompt_id"]
        async for text in socket:
            if isinstance(text, bytes):
                assert struct.unpack(">II", text[:8]) == (1, 1)
                assert Image.open(io.BytesIO(text[8:])).format == "JPEG"
                continue
            message = json.loads(text)
            kinds.append(message["type"])
            if kinds[-1] == "executing" and message["data"]["node"] is None:
                assert message["data"]["prompt_id"] == prompt_id
                break
        found = (await client.get(f"/history/{prompt_id}", headers=key)).json()[prompt_id]
        assert json.loads(await socket.recv())["type"] == "execution_success"
        assert json.loads(await socket.recv())["data"]["status"]["exec_info"]["queue_remaining"] == 0
    order = list(dict.fromkeys(kinds))
    assert order == ["status", "execution_start", "execution_cached", "executing", "progress", "executed"]
    (image,) = found["outputs"]["9"]["images"]
    shown = await client.get("/view", params=image, headers=key)
    assert Image.open(io.BytesIO(shown.content)).size == (64, 64)
    assert found["prompt"][2] == graph
    assert found["status"]["completed"]


async def test_open_webui_edits(client: httpx.AsyncClient, model: str) -> None:
    """The image is uploaded, and the workflow names it as the upload has answered."""
    files = {"image": ("a.png", png(hole=True), "image/png")}
    uploaded = (await client.post("/api/upload/image", files=files, data={"type": "input"})).json()
    graph = workflow(model, latent_image=["11", 0], denoise=0.8)
    graph["10"] = {"inputs": {"image": uploaded["name"]}, "class_type": "LoadImage"}
    graph["11"] = {"inputs": {"pixels": ["10", 0], "vae": ["4", 2]}, "class_type": "VAEEncode"}
    whole = (await client.post("/prompt", json={"prompt": graph})).json()["prompt_id"]
    graph["11"] = {
        "inputs": {"pixels": ["10", 0], "vae": ["4", 2], "mask": ["10", 1], "grow_mask_by": 6},
        "class_type": "VAEEncodeForInpaint",
    }
    inside = (await client.post("/prompt", json={"prompt": graph})).json()["prompt_id"]
    pixels = {}
    for name, prompt_id in (("whole", whole), ("inside", inside)):
        (image,) = (await ended(client, prompt_id))["outputs"]["9"]["images"]
        shown = Image.open(io.BytesIO((await client.get("/view", params=image)).content))
        pixels[name] = shown.convert("RGB").getpixel((0, 0))
    assert pixels["inside"] == (200, 30, 30) != pixels["whole"]


async def test_sillytavern(client: httpx.AsyncClient, model: str) -> None:
    """`src/endpoints/stable-diffusion.js`: ping, lists out of object_info, a prompt as text, the whole history."""
    assert (await client.get("/system_stats")).json()["system"]["comfyui_version"]
    info = (await client.get("/object_info")).json()
    assert model in info["UNETLoader"]["input"]["required"]["unet_name"][0]
    assert model in info["VAELoader"]["input"]["required"]["vae_name"][0]
    assert "euler" in info["KSampler"]["input"]["required"]["sampler_name"][0]
    assert "karras" in info["KSampler"]["input"]["required"]["scheduler"][0]
    text = json.dumps({"prompt": workflow(model)})
    answer = await client.post("/prompt", content=text, headers={"Content-Type": "text/plain;charset=UTF-8"})
    prompt_id = answer.json()["prompt_id"]

    async def item() -> Any:
        return (await client.get("/history")).json().get(prompt_id)

    found = await eventually(item, 60.0)
    assert found["status"]["status_str"] == "success"
    image = found["outputs"]["9"]["images"][0]
    query = f"?filename={image['filename']}&subfolder={image['subfolder']}&type={image['type']}"
    assert (await client.get(f"/view{query}")).content.startswith(b"\x89PNG")


async def test_sillytavern_gives_up(client: httpx.AsyncClient, model: str) -> None:
    graph = workflow(model, steps=100)
    graph["5"]["inputs"]["batch_size"] = 4
    prompt_id = (await client.post("/prompt", json={"prompt": graph})).json()["prompt_id"]

    async def running() -> bool:
        queue = (await client.get("/queue")).json()
        assert [each[1] for each in (*queue["queue_running"], *queue["queue_pending"])] == [prompt_id]
        return bool(queue["queue_running"])

    await eventually(running, 60.0)
    assert (await client.post("/interrupt")).status_code == 200
    found = await ended(client, prompt_id)
    assert found["status"]["messages"][-1][0] == "execution_interrupted"
    assert (await client.get("/prompt")).json() == {"exec_info": {"queue_remaining": 0}}


async def test_who_connects_late_hears_of_its_job(client: httpx.AsyncClient, gateway_url: str, model: str) -> None:
    client_id, prompt_id = "late", str(uuid.uuid4())
    graph = workflow(model, steps=20)
    body = {"prompt": graph, "client_id": client_id, "prompt_id": prompt_id}
    for _ in range(2):  # by its own id, a repeat is the same job
        assert (await client.post("/prompt", json=body)).json()["prompt_id"] == prompt_id
    seen = []
    async with (
        asyncio.timeout(60),
        websockets.connect(f"{gateway_url.replace('http', 'ws')}/api/ws?clientId=late") as ws,
    ):
        async for text in ws:
            if isinstance(text, str) and (message := json.loads(text))["data"].get("prompt_id") == prompt_id:
                seen.append(message["type"])
                if seen[-1] == "execution_success":
                    break
    assert seen[0] == "execution_start"
    assert list((await ended(client, prompt_id))["outputs"]) == ["9"]


async def test_refusals_are_those_of_the_client(client: httpx.AsyncClient, model: str) -> None:
    graph = workflow(model) | {"10": {"class_type": "UpscaleModelLoader", "inputs": {}}}
    answer = await client.post("/prompt", json={"prompt": graph})
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "missing_node_type"
    assert answer.json()["node_errors"]["10"]["class_type"] == "UpscaleModelLoader"
    graph = workflow(model)
    graph["5"]["inputs"]["width"] = 63
    errors = (await client.post("/prompt", json={"prompt": graph})).json()["node_errors"]["5"]["errors"]
    assert [each["extra_info"] for each in errors] == [{"input_name": "width"}, {"input_name": "height"}]
    for method, path, body in (
        ("POST", "/prompt", b"{"),
        ("GET", "/view?filename=../../etc/passwd", b""),
        ("GET", "/models/gifs", b""),
        ("POST", "/history", b'{"clear": true}'),
        ("POST", "/upload/image", b"x"),
        ("GET", "/api/nothing", b""),
    ):
        answer = await client.request(method, path, content=body)
        assert 400 <= answer.status_code < 500
        assert answer.json().keys() == {"error", "node_errors"}


@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm")
@pytest.mark.timeout(180)
def test_an_npm_client(gateway_url: str, tmp_path: Path) -> None:
    """`@saintno/comfyui-sdk` waits for its job by the websocket, the queue and the history."""
    script = tmp_path / "comfyui_sdk.mjs"
    script.write_text((Path(__file__).parent / script.name).read_text())
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "@saintno/comfyui-sdk@0.3.1"]
    subprocess.run(install, cwd=tmp_path, check=True, capture_output=True)
    info = httpx.get(f"{gateway_url}/object_info/CheckpointLoaderSimple").json()
    name = info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0][0]
    graph = json.dumps(workflow(name, steps=20))
    run = subprocess.run(
        ["node", script, gateway_url, graph], cwd=tmp_path, check=True, capture_output=True, timeout=60
    )
    told = json.loads(run.stdout.splitlines()[-1])
    assert "failed" not in told
    assert name in told["checkpoints"]
    assert told["progress"] > 0
    assert httpx.get(told["paths"][0]).content.startswith(b"\x89PNG")
    assert told["uploaded"].endswith(".png")
