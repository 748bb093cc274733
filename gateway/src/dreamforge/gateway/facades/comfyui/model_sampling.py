"""Nodes that change the noise schedule of a model: a shift that is asked for, or what the model does anyway. Pure."""

from collections.abc import Mapping

from dreamforge.gateway.facades.comfyui.graph import Node
from dreamforge.gateway.facades.comfyui.parts import SHIFTS, NodeRefused, Parts

#: What ModelSamplingFlux must say. Source: scheduler/scheduler_config.json of FLUX.1-dev; the shift follows the size.
FLUX: Mapping[str, float] = {"max_shift": 1.15, "base_shift": 0.5}


def read_model_sampling(parts: Parts, size_px: Mapping[str, int]) -> Node | None:
    """The node whose `shift` is the request's `flow_shift`: the last one, as in ComfyUI.

    `size_px`: width and height of the first pass, where the workflow says them. Errors: NodeRefused.
    """
    shift = None
    for node in parts.samplings:
        if node.class_type in SHIFTS:
            shift = _shift_of(node, parts)
        else:
            _check_flux(node, parts, size_px)
    return shift


def _shift_of(node: Node, parts: Parts) -> Node:
    if not parts.model.capabilities.flow_shift:
        raise NodeRefused(node, "model", f"is {parts.model.model_id!r}, whose steps follow no flow that can be shifted")
    return node


def _check_flux(node: Node, parts: Parts, size_px: Mapping[str, int]) -> None:
    if parts.model.family != "flux":
        raise NodeRefused(node, "model", f"is {parts.model.model_id!r}, but must be one of family flux")
    for name, value in FLUX.items():
        _require(node, name, value, "what the model was made with")
    for name in ("width", "height"):
        if not size_px:
            raise NodeRefused(node, name, "needs a picture of a known size: start from an empty latent")
        _require(node, name, size_px[name], "the size of the picture")


def _require(node: Node, name: str, value: float, why: str) -> None:
    if node.inputs[name] != value:
        raise NodeRefused(node, name, f"is {node.inputs[name]:g}, but must be {value:g}: {why}")
