"""What a sampler of a workflow follows: the two prompts, the layers of CLIP, a ControlNet. Pure."""

from dataclasses import dataclass

from dreamforge.gateway.facades.comfyui.graph import Graph, Node
from dreamforge.gateway.facades.comfyui.parts import NodeRefused, Parts, find, require_same

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
    control: Control | None


def read_conditioning(graph: Graph, sampler: Node, parts: Parts) -> Conditioning:
    """Errors: NodeRefused."""
    positive, control = _text_node(graph, sampler, "positive", parts)
    negative, other = _text_node(graph, sampler, "negative", parts)
    if other is not None and (control is None or other.node != control.node):
        raise NodeRefused(other.node, "strength", "a ControlNet acts on the positive prompt, or on both")
    if control is not None and other is None and control.node.class_type == "ControlNetApplyAdvanced":
        raise NodeRefused(sampler, "negative", f"must come from node {control.node.node_id} too, as positive does")
    layer, node = _clip(graph, positive, parts)
    if _clip(graph, negative, parts)[0] != layer:
        raise NodeRefused(negative, "clip", "must be that of the positive prompt: both are encoded in the same way")
    usual = USUAL_LAYER.get(parts.model.family, -1)
    if node is not None and layer > usual:
        said = f"is {layer}, but must be {usual} or less: {parts.model.model_id} never uses the last layer"
        raise NodeRefused(node, "stop_at_clip_layer", said)
    return Conditioning(positive, negative, usual - layer if node is not None else 0, node, control)


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


def _clip(graph: Graph, text: Node, parts: Parts) -> tuple[int, Node | None]:
    """The last layer that is used, and the node that says so. CLIP goes through the LoRAs of the model."""
    layer, said_by = -1, None
    loras: list[str] = []
    node = graph.source(text, "clip")
    while node.class_type in ("LoraLoader", "CLIPSetLastLayer"):
        if node.class_type == "LoraLoader":
            loras.append(node.node_id)
        elif said_by is None:  # the one next to the text counts
            layer, said_by = node.inputs["stop_at_clip_layer"], node
        node = graph.source(node, "clip")
    require_same(node, parts)
    wanted = [each.node.node_id for each in reversed(parts.loras)]
    if loras != wanted:
        through = f"LoRA nodes {', '.join(reversed(wanted))}" if wanted else "no LoRA"
        raise NodeRefused(text, "clip", f"must come through {through}, as the model of the sampler does")
    return layer, said_by
