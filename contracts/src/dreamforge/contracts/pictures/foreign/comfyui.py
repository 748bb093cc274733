"""Pictures of ComfyUI: the graph in API format, in the text `prompt` or in EXIF. Pure.

A graph can be anything, so this follows its links backwards from the last sampler and takes what it knows: a sampler, a
second one above it, prompts, loaders, LoRAs, the size. Every other node is named. The interface for ComfyUI's clients
refuses a graph that it cannot translate whole; an import takes what there is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dreamforge.contracts.pictures.exif import IMAGE_DESCRIPTION, MAKE, MODEL, USER_COMMENT
from dreamforge.contracts.pictures.foreign.imported import (
    LORAS_READ_MAX,
    ImportedLora,
    ImportedModel,
    ImportedRequest,
    Reading,
    json_object,
    number_of,
)
from dreamforge.contracts.pictures.metadata import PictureMetadata
from dreamforge.contracts.pictures.samplers import schedule_steps

#: Nodes that are looked at: a large workflow has some hundred.
NODES_MAX = 2_000
#: Outputs whose nodes are walked through: a workflow has one or two, and each walk takes as long as the graph is large.
OUTPUTS_MAX = 16
_EXIF_FIELDS = (MODEL, MAKE, IMAGE_DESCRIPTION, USER_COMMENT)
_EXIF_PREFIXES = ("prompt:", "Prompt:")
#: Inputs by which classes of ComfyUI and of its extensions name the same.
_MODEL_INPUTS = ("ckpt_name", "unet_name", "model_name", "gguf_name")
_TEXT_INPUTS = ("text", "string", "value", "prompt", "text_g", "t5xxl", "clip_l")
_STEP_LINKS = ("guider", "sampler", "sigmas", "noise")
_SEEDS = ("seed", "noise_seed")
#: Settings of a sampler: our name, its own, and whether it is a whole number.
_NUMBERS = (("seed", _SEEDS, True), ("steps", ("steps",), True), ("guidance_scale", ("cfg",), False))
#: What decides no pixel, or of which all that counts is read where it is used.
_SILENT = frozenset(
    (
        *("SaveImage", "PreviewImage", "VAEDecode", "VAEDecodeTiled", "VAELoader", "CLIPLoader", "DualCLIPLoader"),
        *("TripleCLIPLoader", "Note", "MarkdownNote", "Reroute", "ConditioningZeroOut", "ModelSamplingFlux"),
    )
)
#: Nodes that shift the noise of a flow. Source: comfy_extras/nodes_model_advanced.py of ComfyUI.
_SHIFTS = ("ModelSamplingSD3", "ModelSamplingAuraFlow")
Graph = dict[str, dict[str, Any]]  # Any: JSON


@dataclass(slots=True)
class _Walk:
    """A graph, and which of its nodes were understood."""

    graph: Graph
    used: set[str] = field(default_factory=set)

    def inputs(self, node_id: str) -> dict[str, Any]:  # Any: JSON
        """The inputs of a node, which is understood now."""
        self.used.add(node_id)
        found: dict[str, Any] = self.graph[node_id]["inputs"]
        return found

    def linked(self, node_id: str, name: str) -> str | None:
        """The node that an input is linked to."""
        value = self.graph[node_id]["inputs"].get(name)
        if isinstance(value, list) and value and str(value[0]) in self.graph:
            return str(value[0])
        return None

    def before(self, start: str | None, only: tuple[str, ...] = ()) -> Iterator[str]:
        """A node and all that it is made from, the nearest first; `only` along inputs of these names."""
        queue, seen = ([start] if start is not None else []), {start}
        while queue:
            node_id = queue.pop(0)
            yield node_id
            for name in only or self.graph[node_id]["inputs"]:
                if (found := self.linked(node_id, name)) is not None and found not in seen:
                    seen.add(found)
                    queue.append(found)

    def value(self, node_id: str, *names: str) -> Any:  # Any: JSON
        """The first of these inputs that is there, also where a node of one value is linked to it."""
        for name in names:
            value = self.graph[node_id]["inputs"].get(name)
            if isinstance(value, list):
                target = self.linked(node_id, name)
                value = self._constant(target) if target else None
            if value is not None:
                self.used.add(node_id)
                return value
        return None

    def _constant(self, node_id: str) -> Any:  # Any: JSON
        plain = [each for each in self.graph[node_id]["inputs"].values() if not isinstance(each, list | dict)]
        if len(plain) != 1:
            return None
        self.used.add(node_id)
        return plain[0]


def read_comfyui(metadata: PictureMetadata) -> ImportedRequest | None:
    """The request of a graph; None where there is none, or none with a sampler and a prompt."""
    graph = _graph(json_object(_graph_text(metadata)))
    if not graph:
        return None
    walk, reading = _Walk(graph), Reading("ComfyUI", {})
    if not (samplers := _samplers(walk)):
        return None
    first, last = samplers[-1], samplers[0]
    _pass(walk, reading, first)
    _prompts(walk, reading, first)
    if "prompt" not in reading.fields:
        return None
    _latent(walk, reading, first)
    if len(samplers) > 1:
        _second_pass(walk, reading, first, last)
    model, loras = _loaders(walk, first)
    layer = _clip_layer(walk, first)
    sampler, schedule = _method(walk, first)
    for node_id, node in graph.items():
        if node_id not in walk.used and node["class_type"] not in _SILENT:
            reading.refuse(f"node {node_id} ({node['class_type']})", _plain_inputs(node))
    return reading.done(
        sampler=sampler, schedule=schedule, clip_layer=layer, has_literal_brackets=True, model=model, loras=loras
    )


def _graph_text(metadata: PictureMetadata) -> str | None:
    """PNG has it as a text; formats with EXIF in a field that begins with its name."""
    if "prompt" in metadata.texts:
        return metadata.texts["prompt"]
    for tag in _EXIF_FIELDS:
        text = metadata.exif.get(tag, b"").decode("utf-8", "replace")
        if text.startswith(_EXIF_PREFIXES):
            return text.partition(":")[2].rstrip("\0")
    return None


def _graph(found: dict[str, Any] | None) -> Graph:  # Any: JSON
    """Nodes by their number; of what is none, nothing. NaN in a graph is read as JSON's own extension."""
    nodes = list((found or {}).items())[:NODES_MAX]
    return {
        str(node_id): {"class_type": str(node.get("class_type")), "inputs": node["inputs"]}
        for node_id, node in nodes
        if isinstance(node, dict) and isinstance(node.get("inputs"), dict) and "class_type" in node
    }


def _samplers(walk: _Walk) -> list[str]:
    """The last sampler before an output, and those that it starts from, along its latents.

    Which of several outputs the picture is, it does not say: the one with the most passes is taken.
    """
    outputs = [node_id for node_id, node in walk.graph.items() if "images" in node["inputs"]]
    chains = [
        [node_id for node_id in walk.before(start) if _is_sampler(walk.graph[node_id])]
        for start in (outputs or list(walk.graph))[:OUTPUTS_MAX]
    ]
    return max(chains, key=len, default=[])


def _is_sampler(node: dict[str, Any]) -> bool:  # Any: JSON
    inputs = node["inputs"]
    return "latent_image" in inputs and ({"positive", "guider"} & inputs.keys() != set())


def _pass(walk: _Walk, reading: Reading, sampler: str) -> None:
    """Steps, guidance and seed; those of a sampler in parts are in the nodes linked to it."""
    nodes = list(walk.before(sampler, _STEP_LINKS))
    walk.used.update(nodes)
    for ours, names, whole in _NUMBERS:
        found = next((value for each in nodes if (value := walk.value(each, *names)) is not None), None)
        if found is not None:
            reading.left[ours] = found
            reading.number(ours, ours, whole=whole)
    guidance = next((each for each in walk.before(sampler) if walk.graph[each]["class_type"] == "FluxGuidance"), None)
    if guidance is not None and (number := number_of(walk.value(guidance, "guidance"))) is not None:
        reading.fields["guidance_scale"] = number  # cfg is 1 then
    shift = next((each for each in walk.before(sampler) if walk.graph[each]["class_type"] in _SHIFTS), None)
    if shift is not None and (number := number_of(walk.value(shift, "shift"))) is not None:
        reading.fields["flow_shift"] = number
    denoise = next((number for each in nodes if (number := number_of(walk.value(each, "denoise"))) is not None), None)
    if denoise is not None and denoise < 1:
        reading.fields["strength"] = denoise


def _method(walk: _Walk, sampler: str) -> tuple[str, str]:
    nodes = list(walk.before(sampler, _STEP_LINKS))
    names = (
        next((str(value) for each in nodes if (value := walk.value(each, name)) is not None), "")
        for name in ("sampler_name", "scheduler")
    )
    method, schedule = names
    return method, schedule


def _prompts(walk: _Walk, reading: Reading, sampler: str) -> None:
    """Of a guider in parts, the conditioning is linked to it."""
    guider = walk.linked(sampler, "guider") or sampler
    positive = "positive" if walk.linked(guider, "positive") else "conditioning"
    reading.prompt("prompt", _text(walk, guider, positive))
    reading.prompt("negative_prompt", _text(walk, guider, "negative"))


def _text(walk: _Walk, sampler: str, name: str) -> str:
    """The nearest text above a conditioning; a conditioning that is zeroed has none.

    A node that passes both conditionings on, such as a ControlNet, passes each on under its own name.
    """
    start, seen = walk.linked(sampler, name), {sampler}
    while start is not None and start not in seen and (onward := walk.linked(start, name)) is not None:
        seen.add(start)
        start = onward
    for node_id in walk.before(start):
        node = walk.graph[node_id]
        if node["class_type"] == "ConditioningZeroOut" or _is_sampler(node):
            return ""
        for name in _TEXT_INPUTS:
            if isinstance(text := walk.value(node_id, name), str) and text:
                return text
    return ""


def _latent(walk: _Walk, reading: Reading, sampler: str) -> None:
    """The size of an empty latent, or that an image was started from, which the file does not hold."""
    strength = reading.fields.pop("strength", None)
    for node_id in walk.before(walk.linked(sampler, "latent_image")):
        node = walk.graph[node_id]
        if {"width", "height"} <= node["inputs"].keys() and "Latent" in node["class_type"]:
            for theirs, ours in (("width", "width_px"), ("height", "height_px")):
                reading.left[theirs] = walk.value(node_id, theirs)
                reading.number(theirs, ours, whole=True)
            if isinstance(count := number_of(walk.value(node_id, "batch_size")), float) and count > 1:
                reading.refuse("batch_size", count, "this is one image of several: `images` says how many")
            break
        if node["class_type"].startswith("LoadImage"):
            walk.used.add(node_id)
            reading.start_image(f"node {node_id} ({node['class_type']})", walk.value(node_id, "image") or "an image")
    if strength is not None:
        reading.start_image("denoise", strength)


def _second_pass(walk: _Walk, reading: Reading, first: str, last: str) -> None:
    """How many times the size is enlarged between the samplers, if a node between them says so."""
    for node_id in walk.before(walk.linked(last, "latent_image"), ("samples", "pixels", "image")):
        if node_id == first:
            break
        factor = number_of(walk.value(node_id, "scale_by", "upscale_by"))
        wide, width = number_of(walk.value(node_id, "width")), reading.fields.get("width_px")
        if factor is None and wide and width:
            factor = wide / width
        if factor:
            walk.inputs(last)
            reading.fields["upscale"] = {"factor": factor} | _of_second_pass(walk, last, reading)
            return


def _of_second_pass(walk: _Walk, last: str, reading: Reading) -> dict[str, Any]:  # Any: JSON
    """What it has otherwise than the first."""
    nodes = list(walk.before(last, _STEP_LINKS))
    found = {ours: _number_in(walk, nodes, names, whole=whole) for ours, names, whole in _NUMBERS}
    strength = _number_in(walk, nodes, ("denoise",))
    if strength and found["steps"]:
        found["steps"] = schedule_steps(int(found["steps"]), strength)
    own = {ours: value for ours, value in found.items() if value is not None and value != reading.fields.get(ours)}
    return ({} if strength is None else {"strength": strength}) | own


def _number_in(walk: _Walk, nodes: list[str], names: tuple[str, ...], *, whole: bool = False) -> float | int | None:
    values = (number_of(walk.value(each, *names), whole=whole) for each in nodes)
    return next((value for value in values if value is not None), None)


def _loaders(walk: _Walk, sampler: str) -> tuple[ImportedModel, tuple[ImportedLora, ...]]:
    """The model above a sampler, and the LoRAs between them, the one nearest to the model first."""
    model = ""
    loras: list[ImportedLora] = []
    for node_id in walk.before(walk.linked(walk.linked(sampler, "guider") or sampler, "model"), ("model",)):
        name = walk.value(node_id, "lora_name")
        if name is not None and len(loras) < LORAS_READ_MAX:
            loras.append(_lora(walk, node_id, str(name)))
        elif not model and isinstance(found := walk.value(node_id, *_MODEL_INPUTS), str):
            model = found
    return ImportedModel(model), tuple(reversed(loras))


def _lora(walk: _Walk, node_id: str, name: str) -> ImportedLora:
    """A node that takes no CLIP leaves the text encoders as they are."""
    weight = number_of(walk.value(node_id, "strength_model", "strength"))
    text_weight = number_of(walk.value(node_id, "strength_clip"))
    weight = 1.0 if weight is None else weight
    if text_weight is None and walk.graph[node_id]["class_type"] == "LoraLoaderModelOnly":
        text_weight = 0.0
    return ImportedLora(name, weight, text_weight=None if text_weight == weight else text_weight)


def _clip_layer(walk: _Walk, sampler: str) -> int | None:
    """`stop_at_clip_layer` counts from -1, the last."""
    guider = walk.linked(sampler, "guider") or sampler
    for node_id in walk.before(walk.linked(guider, "positive")):
        layer = number_of(walk.value(node_id, "stop_at_clip_layer"), whole=True)
        if layer is not None:
            return int(abs(layer))
    return None


def _plain_inputs(node: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    return {name: value for name, value in node["inputs"].items() if not isinstance(value, list)}
