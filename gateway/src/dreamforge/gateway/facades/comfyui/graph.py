"""A workflow as it was sent becomes a checked graph: known nodes, links that fit, values within bounds. Pure and total.

As in ComfyUI, every node must be known, and what is checked further is what an output depends on.
"""

import graphlib
import json
import math
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dreamforge.gateway.facades.comfyui.node_types import Input, NodeType
from dreamforge.gateway.facades.comfyui.nodes import NODES
from dreamforge.gateway.facades.comfyui.refusals import Refusals, refused
from dreamforge.gateway.http.errors import SHOWN_CHARS

# The largest of ComfyUI's own templates have some 60 nodes.
NODES_MAX = 256
NODE_ID_CHARS_MAX = 64
# The character NUL in JSON, behind no backslash that would make it text.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
Json = Mapping[str, Any]  # Any: JSON


@dataclass(frozen=True, slots=True)
class Link:
    """The output of another node."""

    node_id: str
    output: int


@dataclass(frozen=True, slots=True)
class Node:
    """A node with the values of its inputs, defaults where ComfyUI has them optional."""

    node_id: str
    class_type: str
    inputs: Mapping[str, Any]  # Any: int, float, str, Link, or None for an optional link

    @property
    def type(self) -> NodeType:
        """What it is."""
        return NODES[self.class_type]


@dataclass(frozen=True, slots=True)
class Graph:
    """What the outputs depend on, in an order in which it could be executed."""

    nodes: Mapping[str, Node]
    outputs: tuple[str, ...]

    def source(self, node: Node, name: str) -> Node:
        """The node that gives an input."""
        return self.nodes[node.inputs[name].node_id]

    def chain(self, node: Node, name: str, through: Container[str]) -> tuple[Node, ...]:
        """Where an input comes from, and then the nodes of classes in `through` that pass it on, the last one last."""
        found = [self.source(node, name)]
        while found[-1].class_type in through:
            found.append(self.source(found[-1], name))
        return tuple(reversed(found))

    def slot(self, node: Node, name: str) -> int:
        """Which of its outputs it is."""
        output: int = node.inputs[name].output
        return output


def read_graph(prompt: object, targets: Iterable[str] | None = None) -> Graph:
    """The graph of a workflow in API format; `targets`: the outputs that are wanted, all if None.

    Errors: WorkflowRefused.
    """
    nodes = _nodes(prompt)
    classes = {node_id: node["class_type"] for node_id, node in nodes.items()}
    shown = tuple(node_id for node_id, name in classes.items() if NODES[name].shows_images)
    outputs = shown if targets is None else tuple(each for each in shown if each in set(targets))
    if not outputs:
        raise refused("prompt_no_outputs", "Prompt has no outputs", "a SaveImage or PreviewImage node is needed")
    refusals = Refusals(classes)
    needed = _needed(nodes, outputs)
    links = {node_id: _links(nodes[node_id]) for node_id in needed}
    try:
        order = tuple(graphlib.TopologicalSorter(links).static_order())
    except graphlib.CycleError as error:
        cycle = [str(each) for each in reversed(error.args[1])]
        refusals.add(cycle[0], "dependency_cycle", "", f"it depends on itself: {' -> '.join(cycle)}")
        raise refusals.error() from None
    found = {
        node_id: Node(node_id, classes[node_id], _inputs(node_id, nodes, refusals))
        for node_id in order
        if node_id in nodes
    }
    refusals.raise_any()
    return Graph(found, outputs)


def graph_to_keep(prompt: Json, maximum_bytes: int) -> dict[str, Any]:  # Any: JSON
    """What is recorded of a workflow: its nodes, with the values and links of their inputs, and their titles.

    Errors: WorkflowRefused for text that no database takes, and for more than so many bytes of JSON.
    """
    kept = {
        node_id: {"class_type": node["class_type"], "inputs": _plain(node.get("inputs"))} | _titled(node)
        for node_id, node in prompt.items()
    }
    try:
        text = json.dumps(kept, ensure_ascii=False, allow_nan=False)
        size_bytes = len(text.encode())
    except ValueError as error:
        raise refused("invalid_prompt", "The workflow has text or numbers that are not valid", str(error)) from None
    if _NUL.search(text):
        raise refused("invalid_prompt", "The workflow has text that is not valid", "a text contains the character NUL")
    if size_bytes > maximum_bytes:
        raise refused("invalid_prompt", "The workflow is too large", f"{size_bytes} bytes, {maximum_bytes} may be")
    return kept


def _plain(inputs: object) -> dict[str, Any]:  # Any: JSON
    given = inputs if isinstance(inputs, dict) else {}
    return {
        name: value
        for name, value in given.items()
        if _is_link(value) or isinstance(value, str | int | float | bool | None)
    }


def _titled(node: Json) -> dict[str, Any]:  # Any: JSON
    meta = node.get("_meta")
    title = meta.get("title") if isinstance(meta, dict) else None
    return {"_meta": {"title": title[:200]}} if isinstance(title, str) else {}


def _nodes(prompt: object) -> Mapping[str, Json]:
    """The nodes, all of a known class. Errors: WorkflowRefused."""
    if not isinstance(prompt, dict) or not prompt:
        raise refused("no_prompt", "No prompt provided", "prompt must be an object: nodes by their ids")
    if isinstance(prompt.get("nodes"), list):
        said = "this is the editor's own format; save it with Export (API)"
        raise refused("invalid_prompt", "The workflow is not in API format", said)
    if len(prompt) > NODES_MAX:
        raise refused("invalid_prompt", "The workflow is too large", f"it has {len(prompt)} nodes, {NODES_MAX} may be")
    refusals = Refusals({key[:SHOWN_CHARS]: _class_of(node) for key, node in prompt.items()})
    for node_id, node in prompt.items():
        name = _class_of(node)
        if len(node_id) > NODE_ID_CHARS_MAX:
            raise refused("invalid_prompt", "A node's id is too long", f"{node_id[:SHOWN_CHARS]}...")
        if name not in NODES:
            said = f"there is no node {name[:SHOWN_CHARS]!r} here; known: {', '.join(NODES)}"
            refusals.add(node_id, "missing_node_type", "", said if name else "the class_type is missing")
    if refusals.found:
        first = next(iter(refusals.found))
        message = f"Cannot execute because node {refusals.classes[first][:SHOWN_CHARS]} does not exist."
        raise refusals.error("missing_node_type", message)
    return prompt


def _class_of(node: object) -> str:
    name = node.get("class_type") if isinstance(node, dict) else None
    return name if isinstance(name, str) else ""


def _given(node: Json) -> Json:
    inputs = node.get("inputs")
    return inputs if isinstance(inputs, dict) else {}


def _is_link(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str | int)
        and isinstance(value[1], int)
        and not isinstance(value[1], bool)
    )


def _links(node: Json) -> set[str]:
    """The nodes that the declared inputs of a node are linked to."""
    given = _given(node)
    names = [name for name in NODES[node["class_type"]].inputs if name in given]
    return {str(given[name][0]) for name in names if _is_link(given[name])}


def _needed(nodes: Mapping[str, Json], outputs: tuple[str, ...]) -> set[str]:
    """What the outputs depend on, themselves too."""
    needed: set[str] = set()
    waiting = list(outputs)
    while waiting:
        node_id = waiting.pop()
        if node_id in nodes and node_id not in needed:
            needed.add(node_id)
            waiting += _links(nodes[node_id])
    return needed


def _inputs(node_id: str, nodes: Mapping[str, Json], refusals: Refusals) -> dict[str, Any]:
    """The checked inputs of a node; what is not declared is ignored, as ComfyUI does."""
    node = nodes[node_id]
    given, found = _given(node), {}
    for name, declared in NODES[node["class_type"]].inputs.items():
        if name not in given:
            if not declared.optional:
                refusals.add(node_id, "required_input_missing", name, name)
            found[name] = declared.default
            continue
        try:
            found[name] = _link_to(given[name], declared, nodes) if declared.is_link else _value(given[name], declared)
        except _Wrong as wrong:
            refusals.add(node_id, wrong.kind, name, f"{name}: {wrong.detail}")
    return found


class _Wrong(Exception):
    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind, self.detail = kind, detail


def _link_to(value: object, declared: Input, nodes: Mapping[str, Json]) -> Link:
    if not _is_link(value):
        raise _Wrong("bad_linked_input", f"is {_shown(value)}, but must be a link to a {declared.kind}")
    assert isinstance(value, list)
    link = Link(str(value[0]), value[1])
    if link.node_id not in nodes:
        raise _Wrong("bad_linked_input", f"there is no node {link.node_id[:SHOWN_CHARS]!r}")
    outputs = NODES[nodes[link.node_id]["class_type"]].outputs
    if not 0 <= link.output < len(outputs):
        raise _Wrong("bad_linked_input", f"node {link.node_id} has no output {link.output}")
    if outputs[link.output] != declared.kind:
        said = f"received_type({outputs[link.output]}) mismatch input_type({declared.kind})"
        raise _Wrong("return_type_mismatch", said)
    return link


def _value(value: object, declared: Input) -> object:
    """A value of the declared type, converted as ComfyUI does."""
    if isinstance(value, list | dict) or value is None:
        raise _Wrong("invalid_input_type", f"is {_shown(value)}, but must be a value ({declared.kind})")
    try:
        if declared.kind == "INT":
            return _within(int(value), declared)  # type: ignore[call-overload]
        if declared.kind == "FLOAT":
            return _within(float(value), declared)  # type: ignore[arg-type]
    except (ValueError, OverflowError):
        raise _Wrong("invalid_input_type", f"is {_shown(value)}, but must be a number ({declared.kind})") from None
    text = str(value)
    if declared.choices and text not in declared.choices:
        raise _Wrong("value_not_in_list", f"{_shown(text)} not in {list(declared.choices)}")
    return text


def _within(value: float, declared: Input) -> float:
    if not math.isfinite(value):
        raise _Wrong("invalid_input_type", "must be a finite number")
    if declared.minimum is not None and value < declared.minimum:
        raise _Wrong("value_smaller_than_min", f"is {value:.80g}, but must be at least {declared.minimum:g}")
    if declared.maximum is not None and value > declared.maximum:
        raise _Wrong("value_bigger_than_max", f"is {_shown(value)}, but must be at most {declared.maximum:g}")
    return value


def _shown(value: object) -> str:
    return repr(value)[:SHOWN_CHARS]
