"""From what a picture says to a request that is valid here. Pure.

Which values a request may have is decided by the rules of a submission alone: what they refuse is left out and named
with their own words.
"""

import json
import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

from dreamforge.contracts.errors import InvalidInput, SizeNotSupported
from dreamforge.contracts.lists import in_a_list
from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.pictures.foreign.imported import (
    NO_COUNTERPART,
    VALUE_CHARS_MAX,
    ImportedRequest,
    Unmapped,
    as_text,
    inside,
)
from dreamforge.contracts.pictures.samplers import A1111_SAMPLERS, sampler_named
from dreamforge.contracts.request.errors import FieldNeeded
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.lora_tags import with_tags_escaped
from dreamforge.contracts.request.resolve import resolve
from dreamforge.gateway.http.errors import InvalidRequest
from dreamforge.gateway.imports.matching import Match, match, without_missing_embeddings
from dreamforge.gateway.imports.replies import ImportedAsset, ImportReply, UnmappedValue
from dreamforge.gateway.submit.accept import parse
from dreamforge.gateway.submit.body import Submission

SDXL = "stable-diffusion-xl"
#: What goes with an image, and means nothing without it.
_OF_IMAGE = ("mask_image", "strength", "resize_mode")
_BRACKET = re.compile(r"(?<!\\)[\[\]]")
_NOT_HERE = "the image is not here, or not yours: upload it"
#: What is left out where the field that it needs is missing.
_WITHOUT = {"init_image": _OF_IMAGE, "output_format": ("output_quality",)}
_LISTS = ("loras", "control", "embeddings", "image_prompts")
#: Stands for a prompt that is missing while the rest is checked.
_ANY_PROMPT = "any"


@dataclass(frozen=True, slots=True)
class ImportContext:
    """What a request is checked with: models, limits, and which images may be named."""

    models: Mapping[str, ModelDescriptor]
    limits: Limits
    schema: type[Submission]
    images: Set[str]


@dataclass(slots=True)
class _Draft:
    """A body while values are added to it and taken out of it."""

    body: dict[str, Any]  # Any: JSON
    unmapped: list[Unmapped]

    def drop(self, name: str, reason: str) -> None:
        """Take a field out and name it, if it is there."""
        if name in self.body:
            self.refuse(name, self.body.pop(name), reason)

    def refuse(self, name: str, value: object, reason: str = NO_COUNTERPART) -> None:
        """Name a value that did not become a field."""
        self.unmapped.append(Unmapped(name, as_text(value)[:VALUE_CHARS_MAX], reason))


def map_request(found: ImportedRequest, context: ImportContext) -> ImportReply:
    """The request of a picture, and everything in the picture that is not in it."""
    matched = match(found.model.name, found.model.hash, "pipeline", context.models.values())
    model = matched.model or next((each for each in context.models.values() if each.kind == "pipeline"), None)
    draft = _Draft(dict(found.fields), list(found.unmapped))
    if not found.has_read_tags and isinstance(prompt := draft.body.get("prompt"), str):
        draft.body["prompt"] = with_tags_escaped(prompt)
    if matched.model is not None:
        draft.body["model_id"] = matched.model.model_id
    loras = _put_loras(draft, found, context)
    if model is not None:
        _put_sampler(draft, found, model)
        _put_clip_skip(draft, found, model)
        _put_brackets(draft, found, model)
        _put_embeddings(draft, context, model)
    _require_images(draft, context)
    _make_valid(draft, context)
    asked = found.model
    return ImportReply(
        tool=found.tool,
        request=draft.body,
        model=_asset(asked.name, asked.hash, matched) if asked.name or asked.hash else None,
        loras=tuple(loras),
        unmapped=tuple(UnmappedValue(name=each.name, value=each.value, reason=each.reason) for each in draft.unmapped),
    )


def images_in(fields: Mapping[str, Any]) -> set[str]:  # Any: JSON
    """The hashes of images that a request names."""
    uses = (use for name in ("control", "image_prompts") for use in in_a_list(fields.get(name)))
    images = (inside(use, "image") for use in uses)
    named = (fields.get("init_image"), fields.get("mask_image"), *images, *_references(fields))
    return {each for each in named if isinstance(each, str) and re.fullmatch(r"[0-9a-f]{64}", each)}


def _references(fields: Mapping[str, Any]) -> list[object]:  # Any: JSON
    given = fields.get("references")
    return given if isinstance(given, list) else []


def _asset(name: str, digest: str, found: Match, weight: float | None = None) -> ImportedAsset:
    return ImportedAsset(
        name=name[:VALUE_CHARS_MAX],
        hash=digest[:VALUE_CHARS_MAX],
        model_id=found.model.model_id if found.model is not None else None,
        matched_by=found.matched_by,
        weight=weight,
        note=found.note,
    )


def _put_loras(draft: _Draft, found: ImportedRequest, context: ImportContext) -> Iterable[ImportedAsset]:
    """Those that are registered; each is in the reply, found or not."""
    uses, shown = {}, []
    for each in found.loras:
        matched = match(each.name, each.hash, "lora", context.models.values())
        shown.append(_asset(each.name, each.hash, matched, each.weight))
        if matched.model is None:
            continue
        if matched.model.model_id in uses:
            draft.refuse("loras", each.name, "is named twice: the first one was taken")
            continue
        uses[matched.model.model_id] = {"model_id": matched.model.model_id, "weight": each.weight} | (
            {} if each.text_weight is None else {"text_weight": each.text_weight}
        )
    if uses:
        draft.body["loras"] = list(uses.values())
    return shown


def _put_sampler(draft: _Draft, found: ImportedRequest, model: ModelDescriptor) -> None:
    """The model's own where it has no other, or where a recipe of ours has a class without a name."""
    if not found.sampler:
        return
    automatic = found.schedule.casefold() == "automatic"
    own = sampler_named(found.sampler, found.schedule, model.capabilities.samplers, automatic=automatic)
    if own is not None:
        draft.body["sampler"] = own
        return
    if found.tool == "Dream Forge" and found.sampler not in {each.name for each in A1111_SAMPLERS.values()}:
        return
    takes = ", ".join(model.capabilities.samplers) or "only its own"
    asked = f"{found.sampler} ({found.schedule})" if found.schedule else found.sampler
    draft.refuse("sampler", asked, f"model {model.model_id} takes: {takes}; without it, its own")


def _put_clip_skip(draft: _Draft, found: ImportedRequest, model: ModelDescriptor) -> None:
    """Which layers are left out, counted from the last, of SDXL from the one before it, which it always takes."""
    if found.clip_layer is None:
        return
    is_sdxl = model.family == SDXL
    if is_sdxl and found.has_fixed_clip_layer:
        return  # that program takes the usual layer, whatever is set
    skip = found.clip_layer - (2 if is_sdxl else 1)
    if skip > 0:
        draft.body["clip_skip"] = skip
    elif skip < 0:
        draft.refuse("clip_skip", found.clip_layer, "the last layer of the text encoders of SDXL is never used here")


def _put_brackets(draft: _Draft, found: ImportedRequest, model: ModelDescriptor) -> None:
    """Square brackets weigh here, and are text there."""
    if found.has_literal_brackets and model.capabilities.prompt_weights:
        for name in ("prompt", "negative_prompt"):
            if isinstance(draft.body.get(name), str):
                draft.body[name] = _BRACKET.sub(r"\\\g<0>", draft.body[name])


def _require_images(draft: _Draft, context: ImportContext) -> None:
    """Leave out images that may not be named, and what goes with them."""
    body = draft.body
    for index, use in reversed(list(enumerate(in_a_list(body.get("control"))))):
        if inside(use, "image") not in context.images:
            _drop_at(draft, ["control", str(index)], _NOT_HERE)
    if any(each not in context.images for each in _references(body)):
        draft.drop("references", _NOT_HERE)
    if "mask_image" in body and body["mask_image"] not in context.images:
        draft.drop("mask_image", _NOT_HERE)
    if "init_image" in body and body["init_image"] not in context.images:
        for name in ("init_image", *_OF_IMAGE):
            draft.drop(name, _NOT_HERE)


def _put_embeddings(draft: _Draft, context: ImportContext, model: ModelDescriptor) -> None:
    """Names of embeddings that are not here become words, so that the prompt can stay."""
    for field in ("prompt", "negative_prompt"):
        if isinstance(text := draft.body.get(field), str) and model.capabilities.embeddings_max:
            draft.body[field], missing = without_missing_embeddings(text, model, context.models)
            for name in missing:
                draft.refuse("embeddings", name, f"no registered embedding of this name fits: it is a word of {field}")


def _make_valid(draft: _Draft, context: ImportContext) -> None:
    """Take out of a body what a submission would refuse; each turn takes something out, so there is a last one."""
    while (error := _problem(draft.body, context)) is not None:
        if not _drop_of(draft, error):
            draft.refuse("request", "", str(error))
            return


def _problem(body: Mapping[str, Any], context: ImportContext) -> InvalidInput | None:  # Any: JSON
    """What a submission refuses about a body. A prompt is for the client to add."""
    try:
        submission = parse(json.dumps({"prompt": _ANY_PROMPT, **body}).encode(), context.schema)
        if any(model.kind == "pipeline" for model in context.models.values()):
            resolve(vars(submission) | {"seed": body.get("seed", 0)}, context.models, context.limits)
    except InvalidInput as error:
        return error
    return None


def _drop_of(draft: _Draft, error: InvalidInput) -> bool:
    """Take out what an error is about; whether anything was there."""
    says, field = str(error), str(getattr(error, "field", ""))
    if isinstance(error, InvalidRequest):
        paths = [((each.pointer or "").split("/")[1:], each.detail) for each in error.violations]
    elif isinstance(error, SizeNotSupported) or field == "pixels":
        paths = [([name], says) for name in ("width_px", "height_px")]
    elif isinstance(error, FieldNeeded):
        paths = [([name], says) for name in _WITHOUT.get(field, ())]
    else:
        paths = [(field.replace(" ", "/").split("/"), says)]
    before = len(draft.unmapped)
    for path, reason in paths:
        _drop_at(draft, path, reason)
    return len(draft.unmapped) > before


def _drop_at(draft: _Draft, path: list[str], says: str) -> None:
    """Take out the field at a path; of a list the item that it names."""
    name, *rest = path or [""]
    listed = draft.body.get(name)
    if name in _LISTS and isinstance(listed, list) and rest and rest[0].isdecimal() and int(rest[0]) < len(listed):
        draft.refuse(name, listed.pop(int(rest[0])), says)
        if not listed:
            del draft.body[name]
    else:
        draft.drop(name, says)
