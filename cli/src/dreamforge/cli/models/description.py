"""Describes a model from its files, where a person gave no descriptor: each option overrides what was inferred."""

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.models.model_card import licence_in
from dreamforge.contracts.models.descriptor import ModelDescriptor, ModelSource
from dreamforge.contracts.models.descriptor_file import FAMILIES, CatalogEntry, check_family
from dreamforge.contracts.models.family_defaults import (
    FAMILY_DEFAULTS,
    HALF_BYTES,
    UPSCALER_PRESET,
    preset_of,
    tiers_of,
    without_guidance,
)
from dreamforge.contracts.readable_sizes import readable_size
from dreamforge.contracts.request.values import SIDE_PX_MAX, SIDE_PX_MIN
from dreamforge.runtime.storage.descriptor_fit import ANY_FAMILY, refuse_other_family, vram_of_files
from dreamforge.runtime.storage.model_facts import ModelFacts, WeightSize

MODEL_ID_CHARACTERS_MAX = 64
#: File names that say nothing of what is in them: the folder's name does.
USUAL_STEMS = frozenset({"model", "pytorch_lora_weights", "diffusion_pytorch_model", "lora", "adapter_model"})


@dataclass(frozen=True, slots=True)
class AddOptions:
    """What a person says of a model that is added; "" leaves it to the files.

    `link`: link to the files instead of copying them. `replace`: also where the id has other files.
    """

    model_id: str = ""
    title: str = ""
    family: str = ""
    licence: str = ""
    configuration: str = ""
    variant: str = ""
    link: bool = False
    replace: bool = False


def describe(facts: ModelFacts, name: str, options: AddOptions, source: ModelSource) -> CatalogEntry:
    """The descriptor of a model with these files.

    Errors: CommandError where its family is needed; UnknownFamily; ModelUnusable where the files are of another one.
    """
    family = options.family or facts.family
    if family is None:
        raise CommandError(
            f"the family of {name} cannot be told from its files",
            Exit.REFUSED,
            hint=f"say which models it fits with --family: {', '.join(FAMILIES[:-1])}",
        )
    check_family(family, "--family")
    refuse_other_family(family, facts)
    metadata = facts.metadata
    common = {
        "model_id": options.model_id or id_of(name),
        "title": options.title or metadata.get("modelspec.title") or metadata.get("ss_output_name") or name,
        "family": family,
        "licence": options.licence or metadata.get("modelspec.license") or licence_in(facts.folder),
        "kind": facts.kind,
        "vram": vram_of_files(facts, family),
        "source": source,
    }
    if facts.kind == "pipeline":
        common |= _of_pipeline(facts, family)
    elif facts.kind == "upscaler":
        common |= _of_upscaler(facts)
    return CatalogEntry.model_validate(common)


def _of_upscaler(facts: ModelFacts) -> dict[str, object]:
    sides = {"size_multiple_px": 1, "side_px_min": SIDE_PX_MIN, "side_px_max": SIDE_PX_MAX}
    return {"scale": facts.scale, "presets": (UPSCALER_PRESET,), **sides}


def overridden(descriptor: ModelDescriptor, options: AddOptions) -> ModelDescriptor:
    """A descriptor with what a person says of the model."""
    said = {name: getattr(options, name) for name in ("model_id", "title", "family", "licence")}
    return descriptor.model_copy(update={name: value for name, value in said.items() if value})


def summary(facts: ModelFacts, family: str) -> str:
    """What was found, in a line."""
    what = facts.kind if facts.kind != "pipeline" else f"pipeline ({', '.join(facts.modes)})"
    variant = f", {facts.variant} weights" if facts.variant else ""
    return f"{family} {what}, {readable_size(facts.size.loaded_bytes(HALF_BYTES))} in half precision{variant}"


def name_of(path: Path) -> str:
    """What a person calls the model in this file or folder."""
    path = path.resolve()
    if path.parent.name == "snapshots":
        path = path.parent.parent
    if path.is_dir():
        return path.name.rpartition("--")[2] if path.name.startswith("models--") else path.name
    return path.parent.name if path.stem in USUAL_STEMS else path.stem


def name_of_url(path: str) -> str:
    """The same for the path of an URL, or `owner/name`."""
    last = PurePosixPath(path)
    return last.parent.name if last.stem in USUAL_STEMS and last.parent.name else last.name.removesuffix(".safetensors")


def id_of(name: str) -> str:
    """A valid id like this name. Errors: CommandError where nothing of it is left."""
    found = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:MODEL_ID_CHARACTERS_MAX]
    if not found:
        raise CommandError(f"no id can be made of the name {name!r}", Exit.REFUSED, hint="choose one with --id")
    return found


def _of_pipeline(facts: ModelFacts, family: str) -> dict[str, object]:
    family = family if family in FAMILY_DEFAULTS else ANY_FAMILY
    known = FAMILY_DEFAULTS[family]
    preset = preset_of(family, facts.side_px, is_guidance_distilled=facts.is_guidance_distilled)
    # A network that was distilled ignores guidance; so what a request says of it is refused, and not ignored.
    distilled = {"parameters": without_guidance(family)} if facts.is_guidance_distilled else {}
    largest = max(facts.part_sizes, key=lambda size: size.loaded_bytes(HALF_BYTES), default=WeightSize())
    return {
        "size_multiple_px": known.size_multiple_px,
        "side_px_min": min(known.side_px_min, preset.width_px),
        "side_px_max": max(known.side_px_max, preset.width_px),
        "presets": (preset,),
        **distilled,
        "tiers": tiers_of(family, facts.size.loaded_bytes(HALF_BYTES), largest.loaded_bytes(HALF_BYTES)),
    }
