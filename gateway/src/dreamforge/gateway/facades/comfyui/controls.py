"""The ControlNets of a workflow, and what makes their images. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dreamforge.gateway.facades.comfyui.graph import Graph, Node
from dreamforge.gateway.facades.comfyui.parts import NodeRefused, Parts, find, require_same

OLD, ADVANCED = "ControlNetApply", "ControlNetApplyAdvanced"
APPLY = frozenset((OLD, ADVANCED))
# Of 8 bits a value, where ComfyUI's thresholds are of values up to 1; kornia, which it uses, smooths with sigma 1.
BITS_MAX = 255
CANNY_SIGMA_PX = 1.0


@dataclass(frozen=True, slots=True)
class Control:
    """A ControlNet, the node that makes a map of its image, if one does, and the node that shows the image."""

    node: Node
    loader: Node
    maker: Node | None
    image: Node
    model_id: str

    @property
    def fields(self) -> dict[str, Any]:
        """An item of the `control` of a job, but for its image. Any: JSON."""
        inputs = self.node.inputs
        window = {
            "start": inputs.get("start_percent") or None,
            "end": None if inputs.get("end_percent") == 1 else inputs.get("end_percent"),
            "preprocess": None if self.maker is None else _preprocess(self.maker),
        }
        return {"model_id": self.model_id, "scale": inputs["strength"]} | {
            name: value for name, value in window.items() if value is not None
        }

    def places(self, index: int) -> Mapping[str, tuple[str, str]]:
        """Where each field of it is from, as the item `index` of `control`."""
        maker = self.maker or self.image
        return {
            f"control/{index}/model_id": (self.loader.node_id, "control_net_name"),
            f"control/{index}/scale": (self.node.node_id, "strength"),
            f"control/{index}/start": (self.node.node_id, "start_percent"),
            f"control/{index}/end": (self.node.node_id, "end_percent"),
            f"control/{index}/image": (self.image.node_id, "image"),
            f"control/{index}/preprocess": (maker.node_id, "low_threshold"),
        }


def require_on_both(sampler: Node, positive: tuple[Control, ...], negative: tuple[Control, ...]) -> None:
    """A ControlNet acts on the positive prompt (the old node) or on both. Errors: NodeRefused."""
    wanted = [each.node.node_id for each in positive if each.node.class_type == ADVANCED]
    for each in negative:
        if each.node.node_id not in wanted:
            raise NodeRefused(each.node, "strength", "a ControlNet acts on the positive prompt, or on both")
    if [each.node.node_id for each in negative] != wanted:
        said = f"must come through ControlNet nodes {', '.join(wanted)}, as positive does"
        raise NodeRefused(sampler, "negative", said)


def read_control(graph: Graph, node: Node, parts: Parts) -> Control:
    """Of a node that applies one. Errors: NodeRefused."""
    if node.inputs.get("vae") is not None:
        require_same(graph.source(node, "vae"), parts)
    loader = graph.source(node, "control_net")
    model = find(loader, "control_net_name", "controlnet", parts.models)
    shown = graph.source(node, "image")
    maker = shown if shown.class_type in _METHODS else None
    image = shown if maker is None else graph.source(maker, "image")
    if image.class_type != "LoadImage":
        after, right = (node, f"LoadImage, {' or '.join(_METHODS)}") if maker is None else (maker, "LoadImage")
        raise NodeRefused(after, "image", f"is {image.class_type}, but must be {right}")
    return Control(node, loader, maker, image, model.model_id)


def _preprocess(maker: Node) -> dict[str, Any]:  # Any: JSON
    name = _METHODS[maker.class_type]
    if name != "canny":
        return {"name": name}
    thresholds = {each: maker.inputs[f"{each}_threshold"] * BITS_MAX for each in ("low", "high")}
    return {"name": name, "sigma_px": CANNY_SIGMA_PX, **thresholds}


_METHODS: Mapping[str, str] = {"Canny": "canny", "ImageInvert": "invert"}
