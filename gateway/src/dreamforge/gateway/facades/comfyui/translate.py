"""From a checked graph to the fields of a job. Pure: what has no counterpart here is refused by node.

One chain is one job: a source of latents, one sampler or two with a latent upscale between them, a decoder, outputs.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.request.embedding_words import embedding_names
from dreamforge.gateway.facades.comfyui.conditioning import Conditioning, read_conditioning
from dreamforge.gateway.facades.comfyui.controls import Control
from dreamforge.gateway.facades.comfyui.graph import Graph, Node
from dreamforge.gateway.facades.comfyui.latent_size import SizeSource, is_size_alone
from dreamforge.gateway.facades.comfyui.loras import LoraInUse, read_loras
from dreamforge.gateway.facades.comfyui.model_sampling import read_model_sampling
from dreamforge.gateway.facades.comfyui.parts import NodeRefused, Parts, read_parts, vae_of
from dreamforge.gateway.facades.comfyui.passes import SamplerPass, read_pass, second_pass
from dreamforge.gateway.facades.comfyui.refusals import Refusals
from dreamforge.gateway.facades.comfyui.sampling_nodes import SAMPLERS
from dreamforge.gateway.facades.comfyui.shown_images import (
    SCALE,
    ImagePrompt,
    encoded_image,
    image_prompts,
    references,
    shown_image,
)
from dreamforge.gateway.facades.comfyui.simplify import Place, Simplified, simplify
from dreamforge.gateway.http.errors import WorkflowRefused

EMPTY = frozenset(("EmptyLatentImage", "EmptySD3LatentImage"))
UPSCALERS = frozenset(("LatentUpscale", "LatentUpscaleBy"))
COLOURS = frozenset(("red", "green", "blue"))
_BRACKET = re.compile(r"(?<!\\)[\[\]]")


@dataclass(frozen=True, slots=True)
class MaskSource:
    """A mask: an image by its name, what of it says where is rendered again, and by how much that is grown."""

    name: str
    by_alpha: bool
    grow_px: int | None = None


@dataclass(frozen=True, slots=True)
class Translation:
    """The fields of a job, and images by the names that the workflow gives them."""

    fields: Mapping[str, Any]  # Any: JSON, validated where jobs are submitted
    places: Mapping[str, Place]
    """Where each field is from, so that an error names what the client has sent."""
    images: Mapping[str, str] = field(default_factory=dict)
    """The names of images by where their hashes belong: init_image, control/0/image, references/0."""
    mask: MaskSource | None = None
    size: SizeSource | None = None
    """What says the size of the render, where the fields do not."""
    outputs: tuple[str, ...] = ()
    """The nodes that show what is rendered."""


@dataclass(slots=True)
class _Draft:
    """What is gathered on the way."""

    fields: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    mask: MaskSource | None = None
    size: SizeSource | None = None

    def put(self, name: str, value: object, node: Node, of: str) -> None:
        self.fields[name], self.places[name] = value, (node.node_id, of)

    def put_second(self, name: str, value: object, node: Node, of: str) -> None:
        """Of the second pass, which is there."""
        self.fields["upscale"][name], self.places[f"upscale/{name}"] = value, (node.node_id, of)


def translate(graph: Graph, models: Mapping[str, ModelDescriptor]) -> Translation:
    """The request of a workflow. Errors: WorkflowRefused, with the node and the input."""
    simple: Simplified | None = None
    try:
        simple = simplify(graph)
        found = _translated(simple, models)
        return replace(found, places={name: simple.place(place) for name, place in found.places.items()})
    except NodeRefused as error:
        refusals = Refusals({node.node_id: node.class_type for node in graph.nodes.values()})
        place = (error.node_id, error.name)
        node_id, name = place if simple is None else simple.place(place)
        refusals.add(node_id, error.kind, name, f"{name}: {error.detail}")
        raise refusals.error() from None


def _translated(simple: Simplified, models: Mapping[str, ModelDescriptor]) -> Translation:
    graph = simple.graph
    outputs = _outputs(graph)
    decoder = _only_decoder(graph, outputs)
    last = graph.source(decoder, "samples")
    if last.class_type not in SAMPLERS:
        raise NodeRefused(decoder, "samples", f"is {last.class_type}, but must be a sampler")
    source = graph.source(last, "latent_image")
    upscaler = source if source.class_type in UPSCALERS else None
    first = last if upscaler is None else _sampler_before(graph, upscaler)
    latent = graph.source(first, "latent_image")
    parts = read_parts(graph, first, models)
    draft = _Draft()
    if (vae := vae_of(graph, decoder, parts)) is not None:
        draft.put("vae", vae, graph.source(decoder, "vae"), "vae_name")
    one = read_pass(first, starts_empty=latent.class_type in EMPTY)
    conditioning = read_conditioning(graph, first, parts)
    _put_model(draft, parts, read_loras(parts.loras, conditioning.loras, models))
    _put_texts(draft, conditioning, one, parts.model)
    _put_pass(draft, one, parts.model)
    _require_known_zeros(simple, conditioning, one, parts.model)
    _put_latent(draft, graph, one, latent, parts)
    size_px = {name: draft.fields[f"{name}_px"] for name in ("width", "height") if f"{name}_px" in draft.fields}
    if (sampling := read_model_sampling(parts, size_px)) is not None:
        draft.put("flow_shift", sampling.inputs["shift"], sampling, "shift")
    for text in (conditioning.positive, conditioning.negative):
        _check_sizes(simple.sent[text.node_id], size_px)
    if one.strength is not None and "init_image" in draft.images:
        draft.put("strength", one.strength, first, one.strength_input)
    if upscaler is not None:
        _put_upscale(draft, upscaler)
        _put_second_pass(draft, second_pass(one, last), parts.model)
        _put_second_texts(draft, conditioning, read_conditioning(graph, last, parts), last, parts.model)
    _put_uses(draft, "control", conditioning.controls)
    _put_uses(draft, "image_prompts", image_prompts(graph, (*parts.ip_adapters, *conditioning.shown), parts))
    _put_references(draft, references(graph, conditioning.shown))
    return Translation(draft.fields, draft.places, draft.images, draft.mask, draft.size, outputs)


def _outputs(graph: Graph) -> tuple[str, ...]:
    """Those but previews of images that the workflow was given, unless there are no others."""
    found = [each for each in graph.outputs if not _shows_a_loaded_image(graph, graph.nodes[each])]
    return tuple(found) or graph.outputs


def _shows_a_loaded_image(graph: Graph, output: Node) -> bool:
    shown = graph.source(output, "images")
    if shown.class_type == SCALE:
        shown = graph.source(shown, "image")
    return output.class_type == "PreviewImage" and shown.class_type == "LoadImage"


def _only_decoder(graph: Graph, outputs: tuple[str, ...]) -> Node:
    """The decoder whose images all outputs show."""
    found: dict[str, Node] = {}
    for output in outputs:
        shown = graph.source(graph.nodes[output], "images")
        if shown.class_type != "VAEDecode":
            raise NodeRefused(graph.nodes[output], "images", f"is {shown.class_type}, but must be VAEDecode")
        found[shown.node_id] = shown
        if len(found) > 1:
            said = f"shows node {shown.node_id}, and another output node {next(iter(found))}: a job has one final image"
            raise NodeRefused(graph.nodes[output], "images", said)
    return next(iter(found.values()))


def _sampler_before(graph: Graph, upscaler: Node) -> Node:
    before = graph.source(upscaler, "samples")
    if before.class_type not in SAMPLERS:
        said = f"is {before.class_type}, but must be the sampler of the first pass"
        raise NodeRefused(upscaler, "samples", said)
    return before


def _put_model(draft: _Draft, parts: Parts, loras: tuple[LoraInUse, ...]) -> None:
    draft.put("model_id", parts.model.model_id, parts.loader, parts.named_by)
    if loras:
        draft.put("loras", [each.field() for each in loras], loras[0].node, "lora_name")
    inputs = {"model_id": "lora_name", "weight": "strength_model", "text_weight": "strength_clip"}
    for index, each in enumerate(loras):
        draft.places |= {f"loras/{index}/{name}": (each.node.node_id, of) for name, of in inputs.items()}


def _put_texts(draft: _Draft, conditioning: Conditioning, one: SamplerPass, model: ModelDescriptor) -> None:
    draft.put("prompt", _text(conditioning.positive, model), conditioning.positive, "text")
    if one.cfg != 1 and (negative := _text(conditioning.negative, model)):  # at 1, ComfyUI does not look at it either
        draft.put("negative_prompt", negative, conditioning.negative, "text")
    if conditioning.clip_skip and conditioning.last_layer is not None:
        draft.put("clip_skip", conditioning.clip_skip, conditioning.last_layer, "stop_at_clip_layer")


def _require_known_zeros(
    simple: Simplified, conditioning: Conditioning, one: SamplerPass, model: ModelDescriptor
) -> None:
    """Zeros in place of a prompt: an empty negative prompt is that of SDXL, and no other model's."""
    for name, text in (("positive", conditioning.positive), ("negative", conditioning.negative)):
        if simple.sent[text.node_id].class_type != "ConditioningZeroOut" or (name == "negative" and one.cfg == 1):
            continue
        if name == "positive" or model.family != "stable-diffusion-xl":
            said = f"is the {name} prompt, but only the negative one of SDXL can be zeros; or cfg must be 1"
            raise NodeRefused(simple.sent[text.node_id], "conditioning", said)


def _check_sizes(text: Node, size_px: Mapping[str, int]) -> None:
    """The sizes that SDXL is told are those of the picture, as the renderer tells it. Errors: NodeRefused."""
    if text.class_type != "CLIPTextEncodeSDXL":
        return
    if not size_px:
        raise NodeRefused(text, "width", "needs a picture of a known size: start from an empty latent")
    right = {"crop_w": 0, "crop_h": 0}
    right |= {f"{start}{name}": side for start in ("", "target_") for name, side in size_px.items()}
    for name, value in right.items():
        if text.inputs[name] != value:
            said = f"is {text.inputs[name]}, but must be {value}: the model is told the size of the picture"
            raise NodeRefused(text, name, said)


def _text(node: Node, model: ModelDescriptor) -> str:
    """The text of a prompt. Only ( ) are weights in ComfyUI; here [ ] are too, so they are escaped."""
    text: str = node.inputs["text"]
    if not model.capabilities.embeddings_max and (found := embedding_names(text)):
        raise NodeRefused(node, "text", f"names the embedding {found[0][:80]!r}, and {model.model_id} takes none")
    return _BRACKET.sub(r"\\\g<0>", text) if model.capabilities.prompt_weights else text


def _put_pass(draft: _Draft, one: SamplerPass, model: ModelDescriptor) -> None:
    node = one.node
    draft.put("seed", one.seed, node, one.seed_input)
    draft.put("steps", one.steps, node, "steps")
    if one.sampler is not None:
        draft.put("sampler", one.sampler, node, "sampler_name")
    guidance, said_by = guidance_of(one, model)
    if guidance is not None:
        draft.put("guidance_scale", guidance, node, said_by)


def guidance_of(one: SamplerPass, model: ModelDescriptor) -> tuple[float | None, str]:
    """The guidance scale and the input that says it: `cfg`, or what is distilled into a model. Errors: NodeRefused."""
    distilled: float | None = one.node.inputs.get("guidance")
    if model.capabilities.negative_prompt:
        if distilled is not None:
            said = f"is for models whose guidance is distilled: {model.model_id} is guided by cfg"
            raise NodeRefused(one.node, "guidance", said)
        return one.cfg, "cfg"
    if one.cfg != 1:
        raise NodeRefused(one.node, "cfg", f"is {one.cfg:g}, but must be 1: {model.model_id} has no negative prompt")
    return distilled, "guidance"


def _put_latent(draft: _Draft, graph: Graph, one: SamplerPass, latent: Node, parts: Parts) -> None:
    """Where the first pass starts: at noise, at noise of the size of an image, at an image, or at one with a mask."""
    if latent.class_type in EMPTY:
        draft.put("width_px", latent.inputs["width"], latent, "width")
        draft.put("height_px", latent.inputs["height"], latent, "height")
        draft.put("images", latent.inputs["batch_size"], latent, "batch_size")
        return
    encoder = latent
    if latent.class_type == "SetLatentNoiseMask":
        encoder = graph.source(latent, "samples")
        draft.mask = _mask(graph, latent, None)
    elif latent.class_type == "VAEEncodeForInpaint":
        draft.mask = _mask(graph, latent, latent.inputs["grow_mask_by"])
    if encoder.class_type not in ("VAEEncode", "VAEEncodeForInpaint"):
        said = f"is {encoder.class_type}: a sampler starts from an empty latent, an encoded image or a latent upscale"
        raise NodeRefused(one.node, "latent_image", said)
    if vae_of(graph, encoder, parts) != draft.fields.get("vae"):
        raise NodeRefused(encoder, "vae", "must be the VAE that decodes: a job has one")
    if latent.class_type == "VAEEncode" and is_size_alone(parts.model, one):
        shown, scaled = encoded_image(graph, encoder)
        draft.size = SizeSource(shown.inputs["image"], scaled, parts.model.size_multiple_px)
        draft.places["width_px"] = draft.places["height_px"] = (shown.node_id, "image")
        return
    shown = shown_image(graph, encoder, "pixels")
    draft.images["init_image"] = shown.inputs["image"]
    draft.put("resize_mode", "image_size", shown, "image")
    draft.places["init_image"] = (shown.node_id, "image")
    if draft.mask is not None:
        draft.places["mask_image"] = (latent.node_id, "mask")


def _mask(graph: Graph, node: Node, grow_px: int | None) -> MaskSource:
    shown = graph.source(node, "mask")
    by_alpha = shown.class_type == "LoadImage" or shown.inputs["channel"] not in COLOURS
    return MaskSource(shown.inputs["image"], by_alpha, grow_px)


def _put_upscale(draft: _Draft, upscaler: Node) -> None:
    if upscaler.class_type == "LatentUpscaleBy":
        factor, named = upscaler.inputs["scale_by"], "scale_by"
    else:
        factor, named = _factor(draft, upscaler), "width"
    draft.fields["upscale"] = {"factor": factor}
    draft.places["upscale"] = draft.places["upscale/factor"] = (upscaler.node_id, named)


def _put_second_pass(draft: _Draft, two: SamplerPass, model: ModelDescriptor) -> None:
    """What the second pass has otherwise than the first."""
    draft.put_second("strength", two.strength, two.node, two.strength_input)
    stated = {
        "seed": (two.seed, two.seed_input),
        "steps": (two.steps, "steps"),
        "sampler": (two.sampler, "sampler_name"),
        "guidance_scale": guidance_of(two, model),
    }
    for name, (value, of) in stated.items():
        if value is not None and value != draft.fields.get(name, object()):
            draft.put_second(name, value, two.node, of)


def _put_second_texts(draft: _Draft, one: Conditioning, two: Conditioning, last: Node, model: ModelDescriptor) -> None:
    alike = (two.clip_skip, two.loras, two.shown) == (one.clip_skip, one.loras, one.shown)
    if not alike or two.controls not in ((), one.controls):
        said = "must come through the nodes that that of the first sampler comes through: only its text may be another"
        raise NodeRefused(last, "positive", said)
    texts = {"prompt": two.positive} | ({"negative_prompt": two.negative} if last.inputs["cfg"] != 1 else {})
    for name, node in texts.items():
        if (text := _text(node, model)) != draft.fields.get(name, ""):
            draft.put_second(name, text, node, "text")


def _factor(draft: _Draft, upscaler: Node) -> float:
    """How many times a size in pixels is that of the first pass; 0 is whatever keeps the shape."""
    if "width_px" not in draft.fields:
        raise NodeRefused(upscaler, "width", "needs a first pass of a known size: use LatentUpscaleBy after an image")
    factors = {
        upscaler.inputs[name] / draft.fields[f"{name}_px"] for name in ("width", "height") if upscaler.inputs[name]
    }
    if len(factors) != 1:
        size = f"{draft.fields['width_px']}x{draft.fields['height_px']}"
        raise NodeRefused(upscaler, "width", f"and height must be the same multiple of {size}")
    factor: float = factors.pop()
    return factor


def _put_uses(draft: _Draft, name: str, uses: Sequence[Control | ImagePrompt]) -> None:
    """What acts beside the text by an image of its own, as the list of the job with this name."""
    if uses:
        draft.fields[name] = [each.fields for each in uses]
    for index, each in enumerate(uses):
        draft.places |= each.places(index)
        draft.places[name] = draft.places[f"{name}/{index}/scale"]  # too many of them are told of the last one
        draft.images[f"{name}/{index}/image"] = each.image.inputs["image"]


def _put_references(draft: _Draft, shown: tuple[Node, ...]) -> None:
    if shown:
        draft.put("references", [""] * len(shown), shown[-1], "image")
    for index, node in enumerate(shown):
        draft.places[f"references/{index}"] = (node.node_id, "image")
        draft.images[f"references/{index}"] = node.inputs["image"]


def located(translation: Translation, graph: Graph, problems: Mapping[str, str]) -> WorkflowRefused | None:
    """What is wrong with fields of a job, told of the nodes that they are from; None where no field is of a node."""
    refusals = Refusals({node.node_id: node.class_type for node in graph.nodes.values()})
    for name, detail in problems.items():
        inner = name.rpartition("/")[0]  # a setting of a preprocessor
        found = (translation.places.get(each) for each in (name, inner, name.partition("/")[0]))
        place = next(filter(None, found), None)
        if place is not None:
            refusals.add(place[0], "custom_validation_failed", place[1], f"{place[1]}: {detail}")
    return refusals.error() if refusals.found else None
