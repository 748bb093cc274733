"""Which model a sampler of a workflow uses, and that all its parts belong together. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from dreamforge.contracts.models.descriptor import Kind, ModelDescriptor
from dreamforge.gateway.facades.comfyui.graph import Graph, Node
from dreamforge.gateway.facades.comfyui.models import model_named, named

Models = Mapping[str, ModelDescriptor]
LORA_LOADERS = frozenset(("LoraLoader", "LoraLoaderModelOnly"))
IP_ADAPTERS = frozenset(("IPAdapterAdvanced",))
SHIFTS = frozenset(("ModelSamplingSD3", "ModelSamplingAuraFlow"))
MODEL_SAMPLINGS = frozenset(("ModelSamplingFlux", *SHIFTS))
# The inputs that name the model, by loader.
NAMES: Mapping[str, tuple[str, ...]] = {
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name",),
    "VAELoader": ("vae_name",),
    "CLIPLoader": ("clip_name",),
    "DualCLIPLoader": ("clip_name1", "clip_name2"),
    "TripleCLIPLoader": ("clip_name1", "clip_name2", "clip_name3"),
}


class NodeRefused(Exception):
    """An input of a node that has no counterpart here: which, and what would be right."""

    def __init__(self, node: Node, name: str, detail: str, kind: str = "not_supported") -> None:
        super().__init__(detail)
        self.node_id, self.name, self.detail, self.kind = node.node_id, name, detail, kind


@dataclass(frozen=True, slots=True)
class Parts:
    """A model, who names it, and the LoRA nodes between it and a sampler."""

    model: ModelDescriptor
    loader: Node
    named_by: str
    loras: tuple[Node, ...]
    samplings: tuple[Node, ...]
    """Nodes that change its noise schedule."""
    ip_adapters: tuple[Node, ...]
    models: Models


def read_parts(graph: Graph, sampler: Node, models: Models) -> Parts:
    """The model of a sampler, through its LoRAs. Errors: NodeRefused."""
    loader, *between = graph.chain(sampler, "model", LORA_LOADERS | MODEL_SAMPLINGS | IP_ADAPTERS)
    named_by = NAMES[loader.class_type][0]
    loras = tuple(node for node in between if node.class_type in LORA_LOADERS)
    samplings = tuple(node for node in between if node.class_type in MODEL_SAMPLINGS)
    adapters = tuple(node for node in between if node.class_type in IP_ADAPTERS)
    return Parts(_model(loader, named_by, models), loader, named_by, loras, samplings, adapters, models)


def find(node: Node, name: str, kind: Kind, models: Models) -> ModelDescriptor:
    """The model that an input names. Errors: NodeRefused."""
    given: str = node.inputs[name]
    model = model_named(given, kind, models)
    if model is None:
        said = f"{given[:80]!r} not in {list(named(kind, models.values()))}"
        raise NodeRefused(node, name, said, "value_not_in_list")
    return model


def _model(node: Node, name: str, models: Models) -> ModelDescriptor:
    return find(node, name, "pipeline", models)


def require_same(node: Node, parts: Parts) -> None:
    """A loader of a part names the model of the sampler. Errors: NodeRefused."""
    for name in NAMES[node.class_type]:
        if _model(node, name, parts.models) != parts.model:
            said = f"is {node.inputs[name]!r}, but must be {parts.model.model_id!r}: a model keeps its own parts"
            raise NodeRefused(node, name, said)


def vae_of(graph: Graph, node: Node, parts: Parts) -> str | None:
    """The VAE of a node; None: that of the model. Errors: NodeRefused."""
    loader = graph.source(node, "vae")
    if loader.class_type == "VAELoader":
        found = model_named(loader.inputs["vae_name"], "vae", parts.models)
        if found is not None:
            return found.model_id
        if model_named(loader.inputs["vae_name"], "pipeline", parts.models) is None:
            known = [*named("vae", parts.models.values()), *named("pipeline", parts.models.values())]
            said = f"{loader.inputs['vae_name'][:80]!r} not in {known}"
            raise NodeRefused(loader, "vae_name", said, "value_not_in_list")
    require_same(loader, parts)
    return None
