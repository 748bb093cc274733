"""Errors as OpenAI's clients read them."""

from collections.abc import Mapping

from dreamforge.gateway.facades.openai.translate import OPENAI_NAMES
from dreamforge.gateway.http.problems import Problem

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
# OpenAI's own codes, which its clients know.
_CODES = {"unknown_model": "model_not_found", "not_authenticated": "invalid_api_key"}


def openai_error(problem: Problem) -> Mapping[str, object]:
    """`{"error": {message, type, param, code}}`; `param` by OpenAI's name."""
    kind = _TYPES.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request_error")
    first = next((error.pointer for error in problem.errors if error.pointer), None)
    param = None if first is None else first.removeprefix("/").replace("/", ".")
    message = problem.detail
    return {
        "error": {
            "message": message,
            "type": kind,
            "param": OPENAI_NAMES.get(param, param) if param is not None else None,
            "code": _CODES.get(problem.code, problem.code),
        }
    }
