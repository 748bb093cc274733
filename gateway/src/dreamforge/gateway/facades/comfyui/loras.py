"""The LoRAs of a workflow: a chain of nodes to the model, another one to the text encoders. Pure.

A node that only one of the chains goes through acts on that part alone, as in ComfyUI.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from dreamforge.gateway.facades.comfyui.graph import Node
from dreamforge.gateway.facades.comfyui.parts import Models, find


@dataclass(slots=True)
class LoraInUse:
    """A LoRA with the strengths of all nodes that name it, added up; `node` is the first of them."""

    node: Node
    model_id: str
    weight: float = 0.0
    text_weight: float = 0.0

    def field(self) -> dict[str, Any]:  # Any: JSON
        """An item of `loras`."""
        text = {} if self.text_weight == self.weight else {"text_weight": self.text_weight}
        return {"model_id": self.model_id, "weight": self.weight, **text}


def read_loras(to_model: Iterable[Node], to_clip: Iterable[Node], models: Models) -> tuple[LoraInUse, ...]:
    """Those of both chains; a LoRA without any strength is left out. Errors: NodeRefused."""
    found: dict[str, LoraInUse] = {}

    def of(node: Node) -> LoraInUse:
        model_id = find(node, "lora_name", "lora", models).model_id
        return found.setdefault(model_id, LoraInUse(node, model_id))

    for node in to_model:
        of(node).weight += node.inputs["strength_model"]
    for node in to_clip:
        of(node).text_weight += node.inputs["strength_clip"]
    return tuple(each for each in found.values() if each.weight or each.text_weight)
