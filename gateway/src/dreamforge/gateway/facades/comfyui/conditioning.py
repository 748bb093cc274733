"""What a sampler of a workflow follows: two prompts, the layers of CLIP, ControlNets, images beside the text. Pure."""

from dataclasses import dataclass

from dreamforge.gateway.facades.comfyui.controls import ADVANCED, APPLY, Control, read_control, require_on_both
from dreamforge.gateway.facades.comfyui.graph import Graph, Node
from dreamforge.gateway.facades.comfyui.parts import NodeRefused, Parts, require_same
from dreamforge.gateway.facades.comfyui.shown_images import ON_PROMPT

PROMPTS = ("positive", "negative")
# What passes a CLIP on.
CLIP_NODES = frozenset(("LoraLoader", "CLIPSetLastLayer"))
# SDXL never uses the last layer: -2, as ComfyUI counts, is its usual one.
USUAL_LAYER = {"stable-diffusion-xl": -2}


@dataclass(frozen=True, slots=True)
class Conditioning:
    """The nodes of the prompts, and what is done with them."""

    positive: Node
    negative: Node
    clip_skip: int
    last_layer: Node | None
    loras: tuple[Node, ...]
    """Those of the text encoders."""
    controls: tuple[Control, ...]
    shown: tuple[Node, ...]
    """Nodes that show the model images beside the prompt, the first one next to the text."""


def read_conditioning(graph: Graph, sampler: Node, parts: Parts) -> Conditioning:
    """Errors: NodeRefused."""
    positive, negative = (_chain(graph, sampler, name, parts) for name in PROMPTS)
    require_on_both(sampler, positive.controls, negative.controls)
    if negative.shown not in ((), positive.shown):
        raise NodeRefused(sampler, "negative", "must show the images that positive shows, or none")
    clip, of_negative = _clip(graph, positive.text, parts), _clip(graph, negative.text, parts)
    if (of_negative.layer, of_negative.loras) != (clip.layer, clip.loras):
        raise NodeRefused(
            negative.text, "clip", "must be that of the positive prompt: both are encoded in the same way"
        )
    layer, node = clip.layer, clip.said_by
    usual = USUAL_LAYER.get(parts.model.family, -1)
    if node is not None and layer > usual:
        said = f"is {layer}, but must be {usual} or less: {parts.model.model_id} never uses the last layer"
        raise NodeRefused(node, "stop_at_clip_layer", said)
    skipped = usual - layer if node is not None else 0
    return Conditioning(
        positive.text, negative.text, skipped, node, clip.loras, controls=positive.controls, shown=positive.shown
    )


@dataclass(frozen=True, slots=True)
class _Chain:
    """The node of a text, and what a sampler has it through, the first one next to the text."""

    text: Node
    controls: tuple[Control, ...]
    shown: tuple[Node, ...]


def _chain(graph: Graph, sampler: Node, name: str, parts: Parts) -> _Chain:
    """Errors: NodeRefused."""
    controls: list[Control] = []
    shown: list[Node] = []
    after, through = sampler, name
    while (node := graph.source(after, through)).class_type in APPLY | ON_PROMPT:
        if node.class_type == ADVANCED and PROMPTS[graph.slot(after, through)] != name:
            said = f"must be output {PROMPTS.index(name)} of node {node.node_id}"
            raise NodeRefused(after, through, said)
        if node.class_type in APPLY:
            controls.append(read_control(graph, node, parts))
        else:
            shown.append(node)
        after, through = node, name if node.class_type == ADVANCED else "conditioning"
    if node.class_type != "CLIPTextEncode":
        said = f"is {node.class_type}, but must be CLIPTextEncode, or a ControlNet or an image on it"
        raise NodeRefused(after, through, said)
    return _Chain(node, tuple(reversed(controls)), tuple(reversed(shown)))


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
