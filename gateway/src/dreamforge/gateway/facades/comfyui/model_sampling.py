"""Nodes that change the noise schedule of a model: taken where they say what the model does anyway. Pure."""

from collections.abc import Mapping

from dreamforge.gateway.facades.comfyui.graph import Node
from dreamforge.gateway.facades.comfyui.parts import NodeRefused, Parts

#: What these nodes must say, by family. Source: scheduler/scheduler_config.json of FLUX.1-dev (max_shift, base_shift;
#: the shift follows the size of the picture) and of Stable Diffusion 3 and 3.5 (shift).
OWN: Mapping[str, tuple[str, Mapping[str, float]]] = {
    "ModelSamplingFlux": ("flux", {"max_shift": 1.15, "base_shift": 0.5}),
    "ModelSamplingSD3": ("stable-diffusion-3", {"shift": 3.0}),
}


def check_model_sampling(parts: Parts, size_px: Mapping[str, int]) -> None:
    """`size_px`: width and height of the first pass, where the workflow says them. Errors: NodeRefused."""
    for node in parts.samplings:
        family, values = OWN[node.class_type]
        if parts.model.family != family:
            raise NodeRefused(node, "model", f"is {parts.model.model_id!r}, but must be one of family {family}")
        for name, value in values.items():
            _require(node, name, value, "what the model was made with")
        for name in ("width", "height"):
            if name in node.inputs and not size_px:
                raise NodeRefused(node, name, "needs a picture of a known size: start from an empty latent")
            if name in node.inputs:
                _require(node, name, size_px[name], "the size of the picture")


def _require(node: Node, name: str, value: float, why: str) -> None:
    if node.inputs[name] != value:
        raise NodeRefused(node, name, f"is {node.inputs[name]:g}, but must be {value:g}: {why}")
