"""A job as the API v2 shows it, from its row. Pure."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from dreamforge.contracts.jobs.course import Status
from dreamforge.gateway.facades.comfyui.history import Row, failure
from dreamforge.gateway.facades.comfyui.names import outputs_of
from dreamforge.gateway.facades.steps import steps_done

Json = dict[str, Any]  # Any: JSON
STATUSES = {
    Status.QUEUED: "queued",
    Status.ASSIGNED: "queued",
    Status.RUNNING: "running",
    Status.SUCCEEDED: "succeeded",
    Status.FAILED: "failed",
    Status.CANCELLED: "canceled",
}
# The contract has a time for everything that is kept; here it is kept until it is deleted.
KEPT = timedelta(days=36_500)


def job_json(row: Row, base: str, root: str) -> Json:
    """`base`: the address of the gateway, with `root`, the prefix of its paths."""
    job_id, path = row["job_id"], f"{root}/api/v2/jobs/{row['job_id']}"
    status = STATUSES[Status(row["status"])]
    if row["cancel_requested"] and status in ("queued", "running"):
        status = "canceling"
    requested, started, finished = row["requested_at"], row["started_at"], row["finished_at"]
    artifacts = [dict(each) for each in row["artifacts"] or ()]
    return {
        "id": job_id,
        "status": status,
        "created_at": _time(requested),
        "started_at": _time(started),
        "completed_at": _time(finished),
        "expires_at": _time(requested + KEPT),
        "queue_position": None,
        "progress": progress(row["workflow"], row["step"]) if status == "running" and row["step"] else None,
        "outputs": [output for each in artifacts for output in outputs(row["workflow"], job_id, each, base)],
        "error": _error(row) if status == "failed" else None,
        "metrics": {"queue_ms": _between(requested, started), "execution_ms": _between(started, finished)},
        "urls": {"self": path, "events": f"{path}/events", "cancel": f"{path}/cancel"},
    }


def outputs(workflow: Mapping[str, Any], job_id: str, artifact: Mapping[str, Any], base: str) -> list[Json]:
    """A finished image, as each output node shows it; `artifact` has its id, type, size and time."""
    artifact_id = artifact["artifact_id"]
    shown = outputs_of(workflow, [(artifact_id, artifact["content_type"])])
    at = datetime.fromisoformat(str(artifact["stored_at"]))
    return [
        {
            "node_id": node_id,
            "name": output["images"][0]["filename"],
            "type": "image",
            "content_type": artifact["content_type"],
            "size_bytes": artifact["size_bytes"],
            "id": artifact_id,
            "hash": None,
            "url": f"{base}/api/v2/assets/{artifact_id}/content",
            "url_expires_at": _time(at + KEPT),
            "job_id": job_id,
        }
        for node_id, output in shown.items()
    ]


def progress(workflow: Mapping[str, Any], step: Mapping[str, Any]) -> Json:
    """How far a job is, by a step of it, over all its images."""
    graph = workflow["graph"]
    node_id = next(each for each, node in graph.items() if node["class_type"].startswith("KSampler"))
    done, total = steps_done(step)
    return {
        "value": min(1.0, done / total),
        "nodes_done": list(graph).index(node_id),
        "nodes_total": len(graph),
        "current_node": node_id,
        "current_node_class": graph[node_id]["class_type"],
        "step": done,
        "steps": total,
        "message": f"{graph[node_id]['class_type']} {done}/{total}",
    }


def _error(row: Row) -> Json:
    said = failure(row["workflow"], row["failure_reason"] or "", row["failure_message"] or "")
    return {
        "code": said["exception_type"] or "node_execution_error",
        "message": said["exception_message"],
        "node_id": said["node_id"],
        "class_type": said["node_type"],
        "traceback": None,
    }


def _time(at: datetime | None) -> str | None:
    return at.isoformat() if at is not None else None


def _between(start: datetime | None, end: datetime | None) -> int | None:
    return None if start is None or end is None else int((end - start).total_seconds() * 1000)
