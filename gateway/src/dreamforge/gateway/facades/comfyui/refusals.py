"""What is wrong with a workflow, in the form that ComfyUI's clients read. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dreamforge.gateway.http.errors import SHOWN_CHARS, VIOLATIONS_MAX, WorkflowRefused
from dreamforge.gateway.http.problems import Problem

# The beginnings of the paths of the classic API.
COMFY_PATHS = (
    *("/api/", "/prompt", "/queue", "/interrupt", "/history", "/view", "/upload/", "/object_info", "/system_stats"),
    *("/embeddings", "/models", "/ws"),
)
INVALID = "prompt_outputs_failed_validation"
# How ComfyUI says the same, by the type of the error (execution.py of ComfyUI 0.3).
MESSAGES = {
    "required_input_missing": "Required input is missing",
    "bad_linked_input": "Bad linked input, must be a length-2 list of [node_id, slot_index]",
    "return_type_mismatch": "Return type mismatch between linked nodes",
    "invalid_input_type": "Failed to convert an input value",
    "value_smaller_than_min": "Value smaller than min",
    "value_bigger_than_max": "Value bigger than max",
    "value_not_in_list": "Value not in list",
    "dependency_cycle": "Dependency cycle detected",
    "missing_node_type": "This node does not exist here",
    "custom_validation_failed": "Custom validation failed for node",
    "not_supported": "This has no counterpart here",
}


@dataclass(slots=True)
class Refusals:
    """What is wrong, by node. `raise_any` ends with all of it."""

    classes: Mapping[str, str]
    """The class of each node."""
    found: dict[str, list[dict[str, object]]] = field(default_factory=dict)

    def add(self, node_id: str, kind: str, name: str, detail: str) -> None:
        """An error of an input of a node; `kind` is one of `MESSAGES`."""
        extra = {"input_name": name} if name else {}
        error: dict[str, object] = {"type": kind, "message": MESSAGES[kind], "details": detail, "extra_info": extra}
        if sum(map(len, self.found.values())) < VIOLATIONS_MAX:
            self.found.setdefault(node_id, []).append(error)

    def error(self, kind: str = INVALID, message: str = "Prompt outputs failed validation") -> WorkflowRefused:
        """All of it, with the numbers, the classes and what is wrong in the text too."""
        lines = [
            f"node {node_id} ({self.classes.get(node_id, 'unknown')[:SHOWN_CHARS]}): {error['details']}"
            for node_id, errors in self.found.items()
            for error in errors
        ]
        nodes = {
            node_id: {"errors": errors, "dependent_outputs": [], "class_type": self.classes.get(node_id, "")}
            for node_id, errors in self.found.items()
        }
        return WorkflowRefused(kind=kind, message=message, reason="; ".join(lines), node_errors=nodes)

    def raise_any(self) -> None:
        """Errors: WorkflowRefused."""
        if self.found:
            raise self.error()


def refused(kind: str, message: str, details: str = "") -> WorkflowRefused:
    """An error of the workflow as a whole."""
    return WorkflowRefused(kind=kind, message=message, reason=details, node_errors={})


def comfy_error(problem: Problem) -> Mapping[str, object]:
    """`{"error": {type, message, details, extra_info}, "node_errors": {...}}`."""
    extra = problem.extra
    return {
        "error": {
            "type": extra.get("kind", problem.code),
            "message": extra.get("message", problem.title),
            "details": extra.get("reason", problem.detail),
            "extra_info": {},
        },
        "node_errors": extra.get("node_errors", {}),
    }
