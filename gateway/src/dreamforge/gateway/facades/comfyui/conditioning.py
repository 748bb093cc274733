"""What a sampler of a workflow follows: the two prompts, the layers of CLIP, ControlNets. Pure."""

from dataclasses import dataclass

from dreamforge.gateway.facades.comfyui.controls import Control, require_on_both, text_and_controls
from dreamforge.gateway.facades.comfyui.graph import Graph, Node
from dreamforge.gateway.facades.comfyui.parts import NodeRefused, Parts, require_same

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


def read_conditioning(graph: Graph, sampler: Node, parts: Parts) -> Conditioning:
    """Errors: NodeRefused."""
    positive, controls = text_and_controls(graph, sampler, "positive", parts)
    negative, others = text_and_controls(graph, sampler, "negative", parts)
    require_on_both(sampler, controls, others)
    clip, of_negative = _clip(graph, positive, parts), _clip(graph, negative, parts)
    if (of_negative.layer, of_negative.loras) != (clip.layer, clip.loras):
        raise NodeRefused(negative, "clip", "must be that of the positive prompt: both are encoded in the same way")
    layer, node = clip.layer, clip.said_by
    usual = USUAL_LAYER.get(parts.model.family, -1)
    if node is not None and layer > usual:
        said = f"is {layer}, but must be {usual} or less: {parts.model.model_id} never uses the last layer"
        raise NodeRefused(node, "stop_at_clip_layer", said)
    return Conditioning(positive, negative, usual - layer if node is not None else 0, node, clip.loras, controls)


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
