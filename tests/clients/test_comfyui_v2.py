"""ComfyUI's API v2, as the `comfy-sdk` of PyPI speaks it, unmodified; and streams that resume."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from comfy_sdk import Comfy, ComfyError, InvalidWorkflow
from comfy_sdk.events import OutputReady, Progress, StatusChange
from PIL import Image
from system_testkit.documents import snippets


def workflow(model: str, **sampler: object) -> dict[str, Any]:
    settings = {"seed": 7, "steps": 4, "cfg": 2, "sampler_name": "euler", "scheduler": "normal", "denoise": 1}
    links = {"model": ["4", 0], "positive": ["6", 0], "negative": ["6", 0], "latent_image": ["5", 0]}
    return {
        "3": {"class_type": "KSampler", "inputs": settings | links | sampler},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": model}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "fox", "images": ["8", 0]}},
    }


@pytest.fixture(scope="module")
def model(gateway_url: str) -> str:
    info = httpx.get(f"{gateway_url}/api/object_info/CheckpointLoaderSimple").json()
    return str(info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0][0])


@pytest.fixture
def client(gateway_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Comfy]:
    monkeypatch.setenv("COMFY_BASE_URL", gateway_url)
    monkeypatch.delenv("COMFY_API_KEY", raising=False)
    with Comfy() as client:
        yield client


def png(colour: tuple[int, int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(out, "PNG")
    return out.getvalue()


def test_a_workflow_with_an_asset(client: Comfy, model: str) -> None:
    asset = client.assets.from_bytes(png((200, 30, 30)), filename="photo.png")
    graph = workflow(model, latent_image=["11", 0], denoise=0.5)
    graph["10"] = {"class_type": "LoadImage", "inputs": {"image": "photo.png"}}
    graph["11"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["10", 0], "vae": ["4", 2]}}
    sent = client.workflows.from_json(graph)
    sent.set_input("10", "image", asset)
    job = client.run(sent)
    assert asset.created_new
    (output,) = job.get_outputs("9")
    assert Image.open(io.BytesIO(output.to_bytes())).size == (64, 64)
    assert output.to_bytes(range=(0, 3)) == b"\x89PNG"
    assert output.name.startswith("fox_")
    assert job.get_workflow().graph["3"] == graph["3"]
    again = client.assets.from_bytes(png((200, 30, 30)), filename="other.png")
    assert (again.commit(), again.created_new) == (asset.id, False)  # by its hash, without the bytes
    assert client.jobs.get(job.id).status == "succeeded"
    assert job.id in [each.id for each in client.list_jobs(limit=1)]


def test_chained_controlnets_with_edges_that_are_found_here(client: Comfy, model: str) -> None:
    graph = workflow(model, positive=["13", 0], negative=["13", 1])
    graph["10"] = {"class_type": "LoadImage", "inputs": {"image": "photo.png"}}
    graph["11"] = {"class_type": "Canny", "inputs": {"image": ["10", 0], "low_threshold": 0.1, "high_threshold": 0.3}}
    graph["20"] = {"class_type": "ControlNetLoader", "inputs": {"control_net_name": "tiny-controlnet"}}
    for node_id, image, links in (("12", "11", ["6", "6"]), ("13", "10", ["12", "12"])):
        inputs = {"positive": [links[0], 0], "negative": [links[1], int(node_id == "13")], "control_net": ["20", 0]}
        window = {"image": [image, 0], "strength": 0.8, "start_percent": 0, "end_percent": 0.5}
        graph[node_id] = {"class_type": "ControlNetApplyAdvanced", "inputs": inputs | window}
    sent = client.workflows.from_json(graph)
    sent.set_input("10", "image", client.assets.from_bytes(png((10, 200, 30)), filename="photo.png"))
    job = client.run(sent)
    (output,) = job.get_outputs("9")
    recipe = json.loads(Image.open(io.BytesIO(output.to_bytes())).info["dreamforge"])
    assert [(use["scale"], use["end"]) for use in recipe["control"]] == [(0.8, 0.5)] * 2
    assert recipe["control"][0]["preprocess"] == {"name": "canny", "low": 25.5, "high": 76.5, "sigma_px": 1.0}
    assert [len(use.get("map_sha256", "")) for use in recipe["control"]] == [64, 0]


def test_events_and_repeats(client: Comfy, model: str) -> None:
    sent = client.workflows.from_json(workflow(model))
    job = client.submit(sent, idempotency_key="once")
    assert client.submit(sent, idempotency_key="once").id == job.id
    events = list(job.events())
    statuses = [each.status for each in events if isinstance(each, StatusChange)]
    assert statuses == ["queued", "running", "succeeded"]
    steps = [each.step for each in events if isinstance(each, Progress)]
    assert steps[-1] == 4
    (shown,) = [each.output for each in events if isinstance(each, OutputReady)]
    assert shown.to_bytes().startswith(b"\x89PNG")
    with pytest.raises(ComfyError, match="already made job"):
        client.submit(client.workflows.from_json(workflow(model, seed=8)), idempotency_key="once")


def test_cancel(client: Comfy, model: str) -> None:
    graph = workflow(model, steps=100)
    graph["5"]["inputs"]["batch_size"] = 4
    job = client.submit(client.workflows.from_json(graph))
    job.cancel()
    assert job.wait(timeout=30).status == "canceled"


def test_refusals_name_the_node(client: Comfy, model: str) -> None:
    graph = workflow(model) | {"77": {"class_type": "FaceDetailer", "inputs": {}}}
    with pytest.raises(InvalidWorkflow, match=r"node 77 \(FaceDetailer\)"):
        client.submit(client.workflows.from_json(graph))
    large = workflow(model)
    large["5"]["inputs"]["width"] = 16_000
    with pytest.raises(InvalidWorkflow, match="width: "):
        client.submit(client.workflows.from_json(large))
    with pytest.raises(ComfyError, match="metadata has no counterpart"):
        client.submit(client.workflows.from_json(workflow(model)), metadata={"a": "b"})
    with pytest.raises(ComfyError) as missing:
        client.jobs.get("00000000-0000-0000-0000-000000000000")
    assert missing.value.code == "not_found"


def frames(text: str) -> list[dict[str, str]]:
    blocks = [block for block in text.split("\n\n") if block and not block.startswith(":")]
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


def test_a_stream_resumes_after_an_event(gateway_url: str, model: str) -> None:
    created = httpx.post(f"{gateway_url}/api/v2/jobs", json={"workflow": workflow(model)}).json()
    url = gateway_url + created["urls"]["events"]
    whole = frames(httpx.get(url, timeout=60).text)
    facts = [each for each in whole if each["event"] in ("status", "output")]
    assert [each["event"] for each in facts] == ["status", "status", "output", "status"]
    rest = frames(httpx.get(url, headers={"Last-Event-ID": facts[1]["id"]}).text)
    assert [each for each in rest if each["event"] in ("status", "output")] == facts[2:]
    assert httpx.get(url, headers={"Last-Event-ID": facts[-1]["id"]}).status_code == 204
    assert httpx.get(url, headers={"Last-Event-ID": "?"}).json()["error"]["code"] == "invalid_request"


def test_the_lines_of_the_document(gateway_url: str, model: str, tmp_path: Path) -> None:
    (code,) = snippets("ComfyUI")
    (tmp_path / "workflow_api.json").write_text(json.dumps(workflow(model)))
    environment = os.environ | {"COMFY_BASE_URL": gateway_url}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, timeout=60)
    assert Image.open(tmp_path / "finished.png").size == (64, 64)
