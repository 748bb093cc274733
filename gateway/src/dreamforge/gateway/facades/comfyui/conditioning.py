"""What a sampler of a workflow follows: the two prompts, the layers of CLIP, a ControlNet. Pure."""

from dataclasses import dataclass

from dreamforge.gateway.facades.comfyui.graph import Graph, Node
from dreamforge.gateway.facades.comfyui.parts import NodeRefused, Parts, find, require_same

# What passes a CLIP on.
CLIP_NODES = frozenset(("LoraLoader", "CLIPSetLastLayer"))
# SDXL never uses the last layer: -2, as ComfyUI counts, is its usual one.
USUAL_LAYER = {"stable-diffusion-xl": -2}


@dataclass(frozen=True, slots=True)
class Control:
    """A ControlNet, and the node that shows its image."""

    node: Node
    loader: Node
    image: Node
    model_id: str
    scale: float


@dataclass(frozen=True, slots=True)
class Conditioning:
    """The nodes of the prompts, and what is done with them."""

    positive: Node
    negative: Node
    clip_skip: int
    last_layer: Node | None
    loras: tuple[Node, ...]
    """Those of the text encoders."""
    control: Control | None


def read_conditioning(graph: Graph, sampler: Node, parts: Parts) -> Conditioning:
    """Errors: NodeRefused."""
    positive, control = _text_node(graph, sampler, "positive", parts)
    negative, other = _text_node(graph, sampler, "negative", parts)
    if other is not None and (control is None or other.node != control.node):
        raise NodeRefused(other.node, "strength", "a ControlNet acts on the positive prompt, or on both")
    if control is not None and other is None and control.node.class_type == "ControlNetApplyAdvanced":
        raise NodeRefused(sampler, "negative", f"must come from node {control.node.node_id} too, as positive does")
    clip, of_negative = _clip(graph, positive, parts), _clip(graph, negative, parts)
    if (of_negative.layer, of_negative.loras) != (clip.layer, clip.loras):
        raise NodeRefused(negative, "clip", "must be that of the positive prompt: both are encoded in the same way")
    layer, node = clip.layer, clip.said_by
    usual = USUAL_LAYER.get(parts.model.family, -1)
    if node is not None and layer > usual:
        said = f"is {layer}, but must be {usual} or less: {parts.model.model_id} never uses the last layer"
        raise NodeRefused(node, "stop_at_clip_layer", said)
    return Conditioning(positive, negative, usual - layer if node is not None else 0, node, clip.loras, control)


def _text_node(graph: Graph, sampler: Node, name: str, parts: Parts) -> tuple[Node, Control | None]:
    """The node of a prompt, and the ControlNet on the way to it."""
    node, slot = graph.source(sampler, name), graph.slot(sampler, name)
    if node.class_type == "CLIPTextEncode":
        return node, None
    control = _control(graph, node, parts)
    inner = "conditioning" if node.class_type == "ControlNetApply" else ("positive", "negative")[slot]
    if inner not in ("conditioning", name):
        raise NodeRefused(sampler, name, f"must be output {('positive', 'negative').index(name)} of {node.node_id}")
    text = graph.source(node, inner)
    if text.class_type != "CLIPTextEncode":
        raise NodeRefused(node, inner, f"is {text.class_type}, but must be CLIPTextEncode: a job has one ControlNet")
    return text, control


def _control(graph: Graph, node: Node, parts: Parts) -> Control:
    for name, needed in (("start_percent", 0), ("end_percent", 1)):
        if node.inputs.get(name, needed) != needed:
            said = f"is {node.inputs[name]:g}, but must be {needed}: a ControlNet acts in all steps"
            raise NodeRefused(node, name, said)
    if node.inputs.get("vae") is not None:
        require_same(graph.source(node, "vae"), parts)
    loader = graph.source(node, "control_net")
    model = find(loader, "control_net_name", "controlnet", parts.models)
    return Control(node, loader, graph.source(node, "image"), model.model_id, node.inputs["strength"])


@dataclass(frozen=True, slots=True)
class _Clip:
    """How a text is encoded: the last layer that is used, the node that says so, and the LoRAs of the encoders."""

    layer: int
    said_by: Node | None
    loras: tuple[Node, ...]


def _clip(graph: Graph, text: Node, parts: Parts) -> _Clip:
    """Errors: NodeRefused."""
    loader, *between = graph.chain(text, "clip", CLIP_NODES)
    require_same(loader, parts)
    layers = [node for node in between if node.class_type == "CLIPSetLastLayer"]  # the one next to the text counts
    layer = layers[-1].inputs["stop_at_clip_layer"] if layers else -1
    return _Clip(layer, layers[-1] if layers else None, tuple(node for node in between if node not in layers))
