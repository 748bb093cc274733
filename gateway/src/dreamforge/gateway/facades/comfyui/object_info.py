"""`object_info`: the nodes as ComfyUI describes them, with the models and samplers of this installation. Pure."""

from collections.abc import Mapping
from typing import Any

from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.gateway.facades.comfyui.models import named
from dreamforge.gateway.facades.comfyui.node_types import Input, NodeType, Source
from dreamforge.gateway.facades.comfyui.nodes import NODES
from dreamforge.gateway.facades.comfyui.samplers import SAMPLER_NAMES, SCHEDULERS

Json = dict[str, Any]  # Any: JSON


def object_info(models: Mapping[str, ModelDescriptor]) -> Json:
    """Every node, by its class."""
    choices = _choices(models)
    return {name: _described(name, node, choices) for name, node in NODES.items()}


def _choices(models: Mapping[str, ModelDescriptor]) -> dict[Source, list[str]]:
    values = list(models.values())
    return {
        "models": list(named("pipeline", values)),
        "vaes": [*named("vae", values), *named("pipeline", values)],
        "loras": list(named("lora", values)),
        "controlnets": list(named("controlnet", values)),
        "samplers": list(SAMPLER_NAMES),
        "schedulers": list(SCHEDULERS),
        "images": [],
        "ip_adapters": list(named("ip_adapter", values)),
    }


def _described(name: str, node: NodeType, choices: Mapping[Source, list[str]]) -> Json:
    parts: dict[str, Json] = {"required": {}, "optional": {}}
    for each, declared in node.inputs.items():
        parts["optional" if declared.optional else "required"][each] = _input(declared, choices)
    inputs = {part: found for part, found in parts.items() if found or part == "required"}
    return {
        "input": inputs,
        "input_order": {part: list(found) for part, found in inputs.items()},
        "output": list(node.outputs),
        "output_is_list": [False] * len(node.outputs),
        "output_name": list(node.names or node.outputs),
        "name": name,
        "display_name": node.title,
        "description": node.note,
        "python_module": "nodes",
        "category": node.category,
        "output_node": node.shows_images,
    }


def _input(declared: Input, choices: Mapping[Source, list[str]]) -> list[Any]:  # Any: JSON
    options = {"default": declared.default, "min": declared.minimum, "max": declared.maximum}
    given = {name: value for name, value in options.items() if value is not None}
    if declared.source is not None:
        return [choices[declared.source], {"image_upload": True} if declared.source == "images" else {}]
    return [list(declared.choices), given] if declared.choices else [declared.kind, given]
