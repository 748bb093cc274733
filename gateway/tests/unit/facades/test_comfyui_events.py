"""The events of a job, as ComfyUI's websocket and the streams of its API v2 tell them."""

import base64
import json
import struct
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dreamforge.gateway.facades.comfyui.history import history, queue
from dreamforge.gateway.facades.comfyui.messages import JobMessages, Message, status
from dreamforge.gateway.facades.comfyui.names import ArtifactName, UploadName, image_entry, read_name, upload_name
from dreamforge.gateway.facades.comfyui.v2.errors import v2_error
from dreamforge.gateway.facades.comfyui.v2.events import JobFrames
from dreamforge.gateway.facades.comfyui.v2.jobs import job_json
from dreamforge.gateway.http.errors import UnknownUpload, WorkflowRefused
from dreamforge.gateway.http.problems import problem_of

JOB = "0190a1b2-0000-7000-8000-000000000001"
AT = "2026-11-27T00:00:00+00:00"
LINKS = {"model": ["1", 0], "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["3", 0]}
SAMPLING = {"seed": 7, "steps": 4, "cfg": 2, "sampler_name": "euler", "scheduler": "normal", "denoise": 1}
GRAPH: dict[str, Any] = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "m"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a fox", "clip": ["1", 1]}},
    "3": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    "4": {"class_type": "KSampler", "inputs": LINKS | SAMPLING},
    "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
    "6": {"class_type": "SaveImage", "inputs": {"images": ["5", 0], "filename_prefix": "a/b c"}},
}
WORKFLOW = {"graph": GRAPH, "outputs": ["6"], "client_id": "c"}


def event(name: str, **fields: Any) -> dict[str, Any]:
    return {"event": name, "job_id": JOB, "at": AT, "sequence": 1, "attempt": 1, **fields}


def step(number: int, steps: int = 4, **more: Any) -> dict[str, Any]:
    return event("step", step=number, steps=steps, image_index=0, images=1, **more)


STORED = event("artifact", index=0, content_type="image/png", size_bytes=3)
JPEG = base64.b64encode(b"jpeg").decode()


def told(*events: dict[str, Any], workflow: dict[str, Any] = WORKFLOW) -> list[Message]:
    job = JobMessages.of(event("requested", workflow=workflow))
    return [message for each in events for message in job.take(each)]


def kinds(messages: list[Message]) -> list[str]:
    return ["preview" if isinstance(each, bytes) else each["type"] for each in messages]


def test_a_job_is_told_node_by_node() -> None:
    found = told(event("started"), step(1, preview=f"data:image/jpeg;base64,{JPEG}"), STORED, event("succeeded"))
    assert kinds(found) == [
        *("execution_start", "execution_cached", *["executing"] * 4),
        *("progress", "preview", *["executing"] * 2, "executed", "executing", "execution_success"),
    ]
    nodes = [each["data"]["node"] for each in found if isinstance(each, dict) and each["type"] == "executing"]
    assert nodes[-3:] == ["5", "6", None]
    assert set(nodes[:3]) == {"1", "2", "3"}
    assert nodes[3] == "4"
    (shown,) = [each for each in found if isinstance(each, bytes)]
    assert (struct.unpack(">II", shown[:8]), shown[8:]) == ((1, 1), b"jpeg")
    (executed,) = [each["data"] for each in found if isinstance(each, dict) and each["type"] == "executed"]
    image = {"filename": f"b_c_{JOB}-1-0_.png", "subfolder": "a", "type": "output"}
    assert (executed["node"], executed["output"]) == ("6", {"images": [image]})
    json.dumps([each for each in found if isinstance(each, dict)])


def test_an_attempt_that_begins_again_is_one_execution() -> None:
    again = told(event("started"), step(1), event("attempt-failed"), event("started"), step(1))
    assert kinds(again).count("execution_start") == 1
    assert kinds(again)[-1] == "progress"


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (event("failed", reason="stalled", message="no step"), "execution_error"),
        (event("cancelled"), "execution_interrupted"),
    ],
)
def test_an_end_without_images(end: dict[str, Any], kind: str) -> None:
    last, nothing = told(event("started"), end)[-2:]
    assert isinstance(last, dict)
    assert (last["type"], last["data"]["node_id"], last["data"]["prompt_id"]) == (kind, "4", JOB)
    assert nothing == {"type": "executing", "data": {"node": None, "display_node": None, "prompt_id": JOB}}


def test_the_steps_of_two_passes_are_those_of_two_samplers() -> None:
    second = {"class_type": "KSampler", "inputs": LINKS | SAMPLING | {"latent_image": ["7", 0], "denoise": 0.5}}
    enlarged = {"samples": ["4", 0], "upscale_method": "area", "scale_by": 2}
    graph = GRAPH | {
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["8", 0], "vae": ["1", 2]}},
        "7": {"class_type": "LatentUpscaleBy", "inputs": enlarged},
        "8": second,
    }
    found = told(event("started"), step(4, 6), step(5, 6), workflow=WORKFLOW | {"graph": graph, "prompt_id": "p"})
    progress = [each["data"] for each in found if isinstance(each, dict) and each["type"] == "progress"]
    assert [(each["node"], each["value"], each["max"]) for each in progress] == [("4", 4, 4), ("8", 1, 2)]
    assert {each["prompt_id"] for each in progress} == {"p"}
    assert status(3, sid="c") == {
        "type": "status",
        "data": {"status": {"exec_info": {"queue_remaining": 3}}, "sid": "c"},
    }


def row(**changes: Any) -> dict[str, Any]:
    at = datetime.fromisoformat(AT)
    artifact = {"artifact_id": f"{JOB}-1-0", "content_type": "image/png", "size_bytes": 3, "stored_at": AT}
    return {
        "job_id": JOB,
        "status": "succeeded",
        "workflow": WORKFLOW,
        "cancel_requested": False,
        "requested_at": at,
        "started_at": at + timedelta(seconds=1),
        "finished_at": at + timedelta(seconds=3),
        "failure_reason": None,
        "failure_message": None,
        "step": None,
        "artifacts": [artifact],
        **changes,
    }


def test_history_and_queue() -> None:
    found = history([row()])[JOB]
    assert found["outputs"]["6"]["images"][0]["subfolder"] == "a"
    assert found["status"]["completed"]
    assert found["prompt"][1:] == [JOB, GRAPH, {"client_id": "c"}, ["6"]]
    failed = history([row(status="failed", artifacts=None, failure_reason="stalled", failure_message="no step")])[JOB]
    assert (failed["outputs"], failed["status"]["status_str"]) == ({}, "error")
    assert failed["status"]["messages"][-1][1]["exception_message"] == "no step"
    later = {"requested_at": datetime(2026, 11, 28, tzinfo=UTC), "job_id": "later", "workflow": WORKFLOW}
    waiting = queue([row(**later, status="queued"), row(status="queued"), row(status="running")])
    assert [each[1] for each in waiting["queue_pending"]] == [JOB, "later"]
    assert len(waiting["queue_running"]) == 1


def test_a_job_of_the_new_api() -> None:
    found = job_json(row(), "http://h", "/forge")
    assert (found["status"], found["metrics"]) == ("succeeded", {"queue_ms": 1000, "execution_ms": 2000})
    assert found["urls"]["events"] == f"/forge/api/v2/jobs/{JOB}/events"
    assert found["outputs"][0]["url"] == f"http://h/api/v2/assets/{JOB}-1-0/content"
    running = row(status="running", step={"step": 2, "steps": 4, "image_index": 1, "images": 2}, finished_at=None)
    progress = job_json(running, "", "")["progress"]
    assert (progress["value"], progress["current_node"], progress["step"]) == (0.75, "4", 6)
    assert job_json(row(status="running", cancel_requested=True), "", "")["status"] == "canceling"
    failed = job_json(row(status="failed", failure_reason="stalled", failure_message="no step"), "", "")["error"]
    assert (failed["code"], failed["node_id"], failed["class_type"]) == ("stalled", "4", "KSampler")


def test_the_stream_of_the_new_api() -> None:
    job = JobFrames("http://h")
    events = [
        *(event("requested", workflow=WORKFLOW), event("assigned"), event("started"), step(0, loading="m")),
        *(step(4, preview=f"data:image/jpeg;base64,{JPEG}"), STORED, event("warned"), event("succeeded")),
    ]
    found = [frame for each in events for frame in job.take(each)]
    assert [name for name, _ in found] == ["status", "status", "progress", "preview", "output", "status"]
    assert [data["status"] for name, data in found if name == "status"] == ["queued", "running", "succeeded"]
    assert found[3][1] == {"node_id": "4", "content_type": "image/jpeg", "data_base64": JPEG}


def test_names_say_what_they_are() -> None:
    sha256, other = "a" * 64, "b" * 64
    assert read_name(upload_name(sha256, "image/webp", other)) == UploadName(sha256, other)
    entry = image_entry("../etc/x y", f"{JOB}-1-0", "image/jpeg", "temp")
    assert entry == {"filename": f"x_y_{JOB}-1-0_.jpg", "subfolder": "etc", "type": "temp"}
    for text in (entry["filename"], f"{entry['filename']} [output]", f"{JOB}-1-0"):
        assert read_name(text) == ArtifactName(f"{JOB}-1-0")
    for text in ("", "a.png", "../../etc/passwd", f"{sha256}{sha256}.png", f"{JOB}.png"):
        assert read_name(text) is None


def test_errors_of_the_new_api() -> None:
    refused = WorkflowRefused(kind="k", message="m", reason="node 7 (X): r", node_errors={"7": {}})
    found: Any = v2_error(problem_of(refused))["error"]
    assert (found["code"], found["details"]) == ("invalid_workflow", {"node_errors": {"7": {}}})
    unknown: Any = v2_error(problem_of(UnknownUpload(field="init_image", value="x")))["error"]
    assert unknown["code"] == "missing_asset"
