"""Errors as the clients of the API v2 read them. Pure."""

from collections.abc import Mapping

from dreamforge.gateway.http.problems import Problem

# The codes of the contract, by those of ours; else by the status.
_CODES = {
    "workflow_refused": "invalid_workflow",
    "idempotency_conflict": "idempotency_key_reuse",
    "job_was_erased": "idempotency_key_reuse",
    "unknown_upload": "missing_asset",
    "queue_full": "queue_full",
    "quota_exceeded": "queue_full",
}
_BY_STATUS = {400: "invalid_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 422: "invalid_request"}


def v2_error(problem: Problem) -> Mapping[str, object]:
    """`{"error": {code, message, details}}`; of a workflow, `details.node_errors` says what is wrong by node."""
    code = _CODES.get(problem.code) or _BY_STATUS.get(problem.status, problem.code)
    nodes = problem.extra.get("node_errors")
    details = {"node_errors": nodes} if nodes else {"code": problem.code, **({"fields": _fields(problem)})}
    return {"error": {"code": code, "message": problem.detail, "details": details}}


def _fields(problem: Problem) -> list[dict[str, str]]:
    return [each.as_json() for each in problem.errors]
