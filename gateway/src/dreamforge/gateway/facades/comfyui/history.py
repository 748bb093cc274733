"""Rows of workflows as ComfyUI's `history` and `queue` show them. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping

from dreamforge.contracts.jobs.course import Status
from dreamforge.gateway.facades.comfyui.names import outputs_of
from dreamforge.gateway.facades.comfyui.sampling_nodes import SAMPLERS

Row = RowMapping | Mapping[str, Any]  # Any: columns of `jobs`, and artifacts
HISTORY = (Status.SUCCEEDED, Status.FAILED, Status.CANCELLED)
RUNNING = (Status.ASSIGNED, Status.RUNNING)
PENDING = (Status.QUEUED,)


def milliseconds(at: datetime | None) -> int:
    """A time as ComfyUI's messages have it."""
    return int(at.timestamp() * 1000) if at is not None else 0


def prompt_id_of(row: Row) -> str:
    """The id by which its client knows a job."""
    return str(row["workflow"].get("prompt_id") or row["job_id"])


def queue_item(row: Row) -> list[Any]:  # Any: JSON
    """`[number, prompt_id, prompt, extra_data, outputs_to_execute]`; jobs are numbered by the time of their request."""
    workflow = row["workflow"]
    extra = {"client_id": workflow["client_id"]} if workflow.get("client_id") else {}
    number = milliseconds(row["requested_at"])
    return [number, prompt_id_of(row), workflow["graph"], extra, list(workflow["outputs"])]


def queue(rows: Iterable[Row]) -> dict[str, list[list[Any]]]:  # Any: JSON
    """The jobs that have not ended, oldest first."""
    oldest = sorted(rows, key=lambda row: (row["requested_at"], row["job_id"]))
    return {
        "queue_running": [queue_item(row) for row in oldest if row["status"] in RUNNING],
        "queue_pending": [queue_item(row) for row in oldest if row["status"] in PENDING],
    }


def history(rows: Iterable[Row]) -> dict[str, dict[str, Any]]:  # Any: JSON
    """Jobs that have ended, by their ids, oldest first as in ComfyUI."""
    oldest = sorted(rows, key=lambda row: (row["requested_at"], row["job_id"]))
    return {prompt_id_of(row): _entry(row) for row in oldest}


def _entry(row: Row) -> dict[str, Any]:  # Any: JSON
    images = [(each["artifact_id"], each["content_type"]) for each in row["artifacts"] or ()]
    outputs = outputs_of(row["workflow"], images) if images else {}
    meta = {
        each: {"node_id": each, "display_node": each, "parent_node": None, "real_node_id": each} for each in outputs
    }
    return {"prompt": queue_item(row), "outputs": outputs, "status": _status(row), "meta": meta}


def _status(row: Row) -> dict[str, Any]:  # Any: JSON
    prompt_id = prompt_id_of(row)
    ended = {"prompt_id": prompt_id, "timestamp": milliseconds(row["finished_at"])}
    started = {"prompt_id": prompt_id, "timestamp": milliseconds(row["started_at"] or row["requested_at"])}
    messages: list[list[Any]] = [["execution_start", started], ["execution_cached", {"nodes": [], **started}]]
    if row["status"] == Status.SUCCEEDED:
        messages.append(["execution_success", ended])
        return {"status_str": "success", "completed": True, "messages": messages}
    if row["status"] == Status.CANCELLED:
        messages.append(["execution_interrupted", ended | interruption(row["workflow"])])
    else:
        said = failure(row["workflow"], row["failure_reason"] or "", row["failure_message"] or "")
        messages.append(["execution_error", ended | said])
    return {"status_str": "error", "completed": False, "messages": messages}


def interruption(workflow: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON
    """Where a job was when it was cancelled: which node does what is not known there, so the sampler is named."""
    node_id = _sampler(workflow)
    return {"node_id": node_id, "node_type": workflow["graph"][node_id]["class_type"], "executed": []}


def failure(workflow: Mapping[str, Any], reason: str, message: str) -> dict[str, Any]:  # Any: JSON
    """Why a job failed."""
    return interruption(workflow) | {
        "exception_type": reason,
        "exception_message": message,
        "traceback": [],
        "current_inputs": {},
        "current_outputs": [],
    }


def _sampler(workflow: Mapping[str, Any]) -> str:
    graph = workflow["graph"]
    return next(str(node_id) for node_id, node in graph.items() if node["class_type"] in SAMPLERS)
