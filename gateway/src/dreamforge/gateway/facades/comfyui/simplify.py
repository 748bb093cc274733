"""Nodes that say the same in another way become those that `translate` reads. Pure.

A sampler in parts becomes a KSampler, encoders of several equal texts become CLIPTextEncode, a zeroed conditioning an
empty text; what shows one loaded image as it is becomes that image. What such a node was, and which node has said an
input, is kept, so that errors name what was sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dreamforge.gateway.facades.comfyui.graph import Graph, Link, Node
from dreamforge.gateway.facades.comfyui.parts import NodeRefused

Place = tuple[str, str]
"""A node and an input of it."""
# The texts of encoders that have several; the first one is named in errors.
TEXTS: Mapping[str, tuple[str, ...]] = {
    "CLIPTextEncode": ("text",),
    "CLIPTextEncodeFlux": ("t5xxl", "clip_l"),
    "CLIPTextEncodeSDXL": ("text_g", "text_l"),
    "CLIPTextEncodeSD3": ("clip_g", "clip_l", "t5xxl"),
}
# Where the nodes of a sampler in parts have its inputs: the link to the node, and the input there.
PARTS: Mapping[str, tuple[str, str]] = {
    "seed": ("noise", "noise_seed"),
    "sampler_name": ("sampler", "sampler_name"),
    "scheduler": ("sigmas", "scheduler"),
    "steps": ("sigmas", "steps"),
    "denoise": ("sigmas", "denoise"),
    "model": ("guider", "model"),
}
BOTH_PROMPTS = "ControlNetApplyAdvanced"


@dataclass(frozen=True, slots=True)
class Simplified:
    """A graph of fewer kinds of nodes."""

    graph: Graph
    sent: Mapping[str, Node]
    """The nodes as they were sent, by their ids."""
    places: Mapping[Place, Place]
    """Where an input was sent, where it is not where it is now."""

    def place(self, place: Place) -> Place:
        """Where an input was sent."""
        return self.places.get(place, place)


def simplify(graph: Graph) -> Simplified:
    """Errors: NodeRefused for texts that are not the same, and for a sampler whose parts have several models."""
    nodes: dict[str, Node] = {}
    places: dict[Place, Place] = {}
    passed: dict[str, Link] = {}
    for node_id, sent in graph.nodes.items():  # in an order in which they could be executed
        node = replace(sent, inputs={name: _past(value, passed) for name, value in sent.inputs.items()})
        now = Graph(nodes, ())
        if node.class_type == "FluxGuidance":
            passed[node_id] = node.inputs["conditioning"]
        elif node.class_type == "ImageStitch":
            passed[node_id] = _only_image(node)
        elif node.class_type == "LoadImageOutput":
            node = replace(node, class_type="LoadImage")
        elif node.class_type == "SamplerCustomAdvanced":
            node = _joined(now, node, places)
        elif node.class_type == "ConditioningZeroOut":
            node = Node(node_id, "CLIPTextEncode", {"text": "", "clip": _text_before(now, node).inputs["clip"]})
        elif node.class_type in TEXTS:
            node = _with_one_text(node, places)
        nodes[node_id] = node
    for node_id, node in nodes.items():
        if node.class_type in ("KSampler", "KSamplerAdvanced"):
            nodes[node_id] = _with_guidance(graph, node, places)
    return Simplified(Graph(nodes, graph.outputs), graph.nodes, places)


def _past(value: object, passed: Mapping[str, Link]) -> object:
    """A link without the nodes that only pass it on."""
    return passed[value.node_id] if isinstance(value, Link) and value.node_id in passed else value


def _only_image(node: Node) -> Link:
    if node.inputs["image2"] is not None:
        said = "is a second image, and they are not joined here: show each by a ReferenceLatent of its own"
        raise NodeRefused(node, "image2", said)
    image: Link = node.inputs["image1"]
    return image


def _joined(graph: Graph, node: Node, places: dict[Place, Place]) -> Node:
    inputs: dict[str, Any] = {"latent_image": node.inputs["latent_image"]}
    for name, (part, there) in PARTS.items():
        said_by = graph.source(node, part)
        inputs[name], places[node.node_id, name] = said_by.inputs[there], (said_by.node_id, there)
    guider, scheduler = graph.source(node, "guider"), graph.source(node, "sigmas")
    if scheduler.inputs["model"] != guider.inputs["model"]:
        raise NodeRefused(scheduler, "model", f"must be that of node {guider.node_id}: one model renders")
    if guider.class_type == "CFGGuider":
        names = ("positive", "negative", "cfg")
        places |= {(node.node_id, name): (guider.node_id, name) for name in names}
        return Node(node.node_id, "KSampler", inputs | {name: guider.inputs[name] for name in names})
    positive = guider.inputs["conditioning"]
    places |= {(node.node_id, name): (guider.node_id, "conditioning") for name in ("positive", "negative", "cfg")}
    return Node(
        node.node_id, "KSampler", inputs | {"positive": positive, "negative": _beside(graph, positive), "cfg": 1.0}
    )


def _beside(graph: Graph, positive: Link) -> Link:
    """What a conditioning without a negative one has in its place: it counts for nothing."""
    return Link(positive.node_id, 1) if graph.nodes[positive.node_id].class_type == BOTH_PROMPTS else positive


def _text_before(graph: Graph, node: Node) -> Node:
    """The nearest text above a conditioning, along the first of its inputs that is one."""
    while node.class_type != "CLIPTextEncode":
        node = graph.source(node, next(name for name in ("conditioning", "positive") if name in node.inputs))
    return node


def _with_one_text(node: Node, places: dict[Place, Place]) -> Node:
    first, *others = TEXTS[node.class_type]
    for other in others:
        if node.inputs[other] != node.inputs[first]:
            raise NodeRefused(node, other, f"must be the text of {first}: all encoders read one prompt")
    places[node.node_id, "text"] = (node.node_id, first)
    return Node(node.node_id, "CLIPTextEncode", {"text": node.inputs[first], "clip": node.inputs["clip"]})


def _with_guidance(graph: Graph, node: Node, places: dict[Place, Place]) -> Node:
    """A sampler with the distilled guidance of its positive prompt, if one is said."""
    said_by = _guidance_before(graph, graph.nodes[node.node_id])
    if said_by is None:
        return node
    places[node.node_id, "guidance"] = (said_by.node_id, "guidance")
    return replace(node, inputs={**node.inputs, "guidance": said_by.inputs["guidance"]})


def _guidance_before(graph: Graph, node: Node) -> Node | None:
    """The nearest node above the positive prompt of a sampler, as it was sent, that has a guidance."""
    while "guidance" not in node.inputs:
        name = next(
            (each for each in ("guider", "positive", "conditioning") if node.inputs.get(each) is not None), None
        )
        if name is None:
            return None
        node = graph.source(node, name)
    return node
