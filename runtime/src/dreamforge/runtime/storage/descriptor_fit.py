"""A descriptor and the files that it describes: whether they fit, and what only the files say. Pure."""

from dreamforge.contracts.models.descriptor import ModelDescriptor, Parameters, VramProfile
from dreamforge.contracts.models.family_defaults import (
    FAMILY_DEFAULTS,
    HALF_BYTES,
    SINGLE_BYTES,
    addition_vram_of,
    upscaler_vram_of,
    vram_of,
)
from dreamforge.runtime.storage.model_facts import ModelFacts, ModelUnusable

#: Of this family is any folder that diffusers reads by itself.
ANY_FAMILY = "diffusers"


def fitted(descriptor: ModelDescriptor, facts: ModelFacts) -> ModelDescriptor:
    """The descriptor with the modes that its files can do; the others are left out.

    Errors: ModelUnusable where it says another kind or family than the files, or no mode is left.
    """
    where = str(facts.folder)
    if descriptor.kind != facts.kind:
        right = f"describe it as kind: {facts.kind}"
        raise ModelUnusable(where, "kind", f"is {descriptor.kind}, but the files are a {facts.kind}", right)
    refuse_other_family(descriptor.family, facts)
    if descriptor.scale != facts.scale:
        reason = f"is {descriptor.scale}, but the network enlarges {facts.scale} times"
        raise ModelUnusable(where, "scale", reason, f"write scale: {facts.scale}")
    if facts.kind != "pipeline" or not (lost := set(descriptor.capabilities.modes) - set(facts.modes)):
        return descriptor
    able = descriptor.capabilities
    modes = tuple(mode for mode in able.modes if mode not in lost) or _only_modes(descriptor, facts)
    return descriptor.model_copy(update={"parameters": _with_modes(able, modes, descriptor)})


def refuse_other_family(family: str, facts: ModelFacts) -> None:
    """Errors: ModelUnusable where the files are surely of another family."""
    if facts.is_family_sure and family not in (facts.family, ANY_FAMILY):
        right = f"describe it as family: {facts.family}"
        raise ModelUnusable(str(facts.folder), "family", f"is {family}, but the files are of {facts.family}", right)


def check_modes(descriptor: ModelDescriptor, facts: ModelFacts) -> None:
    """Errors: ModelUnusable where the descriptor itself names a mode that its files cannot do."""
    named = descriptor.parameters.modes if descriptor.parameters is not None else ()
    if facts.kind == "pipeline" and (lost := [mode for mode in named if mode not in facts.modes]):
        right = f"write modes: [{', '.join(facts.modes)}]"
        reason = f"has {', '.join(lost)}, but the network can do only {', '.join(facts.modes)}"
        raise ModelUnusable(str(facts.folder), "parameters.modes", reason, right)


def vram_of_files(facts: ModelFacts, family: str) -> VramProfile:
    """The memory that a model takes, from its headers; floats count as half precision, as a GPU has them."""
    if facts.scale is not None:
        return upscaler_vram_of(facts.size.loaded_bytes(SINGLE_BYTES), facts.scale)
    weights_bytes = facts.size.loaded_bytes(HALF_BYTES)
    if facts.kind != "pipeline":
        return addition_vram_of(weights_bytes)
    return vram_of(family if family in FAMILY_DEFAULTS else ANY_FAMILY, weights_bytes)


def _only_modes(descriptor: ModelDescriptor, facts: ModelFacts) -> tuple[str, ...]:
    """Where a descriptor's modes are all wrong, what the files can do, unless a person chose those modes."""
    check_modes(descriptor, facts)
    return facts.modes


def _with_modes(able: Parameters, modes: tuple[str, ...], descriptor: ModelDescriptor) -> Parameters:
    changes: dict[str, object] = {"modes": modes}
    if "image" not in modes:
        changes["upscale_max"] = 1.0  # the second pass renders over an image
    if "text" not in modes and descriptor.parameters is None:
        changes["controlnet"] = False  # a network with a mask among its channels has no ControlNet pipeline
    return able.model_copy(update=changes)
