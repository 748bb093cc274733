"""Images that a workflow shows a model beside its prompt: image prompts, by an adapter, and references. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dreamforge.gateway.facades.comfyui.graph import Graph, Node
from dreamforge.gateway.facades.comfyui.parts import NodeRefused, Parts, find

STYLE, IP_ADAPTER, REFERENCE = "StyleModelApply", "IPAdapterAdvanced", "ReferenceLatent"
SCALE = "FluxKontextImageScale"
#: Those that a prompt comes through.
ON_PROMPT = frozenset((STYLE, REFERENCE))
# Where each has its adapter, and where that is named.
_LOADER = {STYLE: ("style_model", "style_model_name"), IP_ADAPTER: ("ipadapter", "ipadapter_file")}


@dataclass(frozen=True, slots=True)
class ImagePrompt:
    """The node that applies an adapter, the one that names it, and the one that shows the image."""

    node: Node
    loader: Node
    image: Node
    model_id: str

    @property
    def fields(self) -> dict[str, Any]:
        """An item of the `image_prompts` of a job, but for its image. Any: JSON."""
        inputs = self.node.inputs
        window = {"start": inputs.get("start_at") or None, "end": inputs.get("end_at", 1)}
        stated = {name: value for name, value in window.items() if value not in (None, 1)}
        return {"model_id": self.model_id, "scale": inputs[self._scale], **stated}

    def places(self, index: int) -> Mapping[str, tuple[str, str]]:
        """Where each field of it is from, as the item `index` of `image_prompts`."""
        own, at = self.node.node_id, f"image_prompts/{index}"
        return {
            f"{at}/model_id": (self.loader.node_id, _LOADER[self.node.class_type][1]),
            f"{at}/scale": (own, self._scale),
            f"{at}/start": (own, "start_at"),
            f"{at}/end": (own, "end_at"),
            f"{at}/image": (self.image.node_id, "image"),
        }

    @property
    def _scale(self) -> str:
        return "strength" if self.node.class_type == STYLE else "weight"


def image_prompts(graph: Graph, nodes: Iterable[Node], parts: Parts) -> tuple[ImagePrompt, ...]:
    """Those of a chain, in its order. Errors: NodeRefused."""
    return tuple(_image_prompt(graph, node, parts) for node in nodes if node.class_type in _LOADER)


def references(graph: Graph, nodes: Iterable[Node]) -> tuple[Node, ...]:
    """The nodes that show the reference images of a chain, in its order. Errors: NodeRefused."""
    found = (node for node in nodes if node.class_type == REFERENCE and node.inputs["latent"] is not None)
    return tuple(_reference(graph, node) for node in found)


def _image_prompt(graph: Graph, node: Node, parts: Parts) -> ImagePrompt:
    link, name = _LOADER[node.class_type]
    loader = graph.source(node, link)
    adapter = find(loader, name, "ip_adapter", parts.models)
    encoder = graph.source(node, "clip_vision_output") if node.class_type == STYLE else node
    if encoder.inputs["clip_vision"] is not None:
        vision = graph.source(encoder, "clip_vision")
        if find(vision, "clip_name", "ip_adapter", parts.models) != adapter:
            said = f"must be {adapter.model_id!r}, which has an encoder of its own"
            raise NodeRefused(vision, "clip_name", said)
    return ImagePrompt(node, loader, shown_image(graph, encoder, "image"), adapter.model_id)


def _reference(graph: Graph, node: Node) -> Node:
    encoder = graph.source(node, "latent")
    if encoder.class_type != "VAEEncode":
        raise NodeRefused(node, "latent", f"is {encoder.class_type}, but must be VAEEncode")
    return encoded_image(graph, encoder)[0]


def encoded_image(graph: Graph, encoder: Node) -> tuple[Node, bool]:
    """The node that loads what is encoded, and whether it is scaled before to a size that Kontext was trained with.

    Errors: NodeRefused.
    """
    scaled = graph.source(encoder, "pixels")
    if scaled.class_type == SCALE:
        return shown_image(graph, scaled, "image"), True
    return shown_image(graph, encoder, "pixels"), False


def shown_image(graph: Graph, node: Node, name: str) -> Node:
    """The node that loads the image of an input. Errors: NodeRefused where another node makes it."""
    shown = graph.source(node, name)
    if shown.class_type != "LoadImage":
        raise NodeRefused(node, name, f"is {shown.class_type}, but must be LoadImage")
    return shown
