"""Which of a model's weight files are read: of each part one variant, all of its shards, and nothing twice. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

#: File names of diffusers and transformers: NAME(.VARIANT)(-00001-of-00002)(.VARIANT).safetensors
WEIGHTS = re.compile(
    r"(?P<stem>model|diffusion_pytorch_model)(?:\.(?P<before>\w+))?"
    r"(?:-(?P<number>\d+)-of-(?P<count>\d+))?(?:\.(?P<after>\w+))?\.safetensors"
)
#: The list of shards, with the variant where newer and where older releases wrote it.
SHARD_INDEX = re.compile(
    r"(?P<stem>model|diffusion_pytorch_model)\.safetensors(?:\.(?P<before>\w+))?\.index(?:\.(?P<after>\w+))?\.json"
)
PLAIN = ""
#: The variants to take where a part has several and no plain weights; another one after these, by its name.
USUAL_VARIANTS = ("fp16", "bf16", "fp32")


@dataclass(frozen=True, slots=True)
class PartWeights:
    """The weights of one part, by variant: file names of each complete one, and why the others are not complete."""

    complete: dict[str, tuple[str, ...]] = field(default_factory=dict)
    incomplete: dict[str, str] = field(default_factory=dict)


def variant_of_name(name: str) -> str | None:
    """The variant in the name of a weight file, `PLAIN` without one; None if no pipeline reads a file of that name.

    >>> variant_of_name("model.fp16-00001-of-00002.safetensors"), variant_of_name("v1-5-pruned.safetensors")
    ('fp16', None)
    """
    found = WEIGHTS.fullmatch(name)
    return None if found is None else found["before"] or found["after"] or PLAIN


def part_weights(names: Iterable[str], stem: str = "") -> PartWeights:
    """The weights among the file names of one part. `stem`: the only name that its library reads; "": either."""
    names = list(names)
    found = [match for name in names if (match := WEIGHTS.fullmatch(name)) and stem in (PLAIN, match["stem"])]
    weights = PartWeights()
    for variant in sorted({match["before"] or match["after"] or PLAIN for match in found}):
        own = [match for match in found if (match["before"] or match["after"] or PLAIN) == variant]
        shards = [match for match in own if match["number"]]
        whole = sorted(match.string for match in own if not match["number"])
        fault = _shard_fault(shards, names, variant) if shards else PLAIN
        if shards and not fault:
            weights.complete[variant] = tuple(sorted(match.string for match in shards))
        elif whole:
            weights.complete[variant] = (whole[0],)
        else:
            weights.incomplete[variant] = fault
    return weights


def shard_index_of(names: Iterable[str], variant: str) -> str | None:
    """The name of the list of a variant's shards."""
    matches = (match for name in names if (match := SHARD_INDEX.fullmatch(name)))
    return next((each.string for each in matches if (each["before"] or each["after"] or PLAIN) == variant), None)


def choose_variant(variants: Iterable[str]) -> str | None:
    """Of a part's complete variants, the one to read: plain weights, else the most usual; None if there is none.

    >>> choose_variant(["non_ema", "bf16", "fp16"]), choose_variant(["", "fp16"])
    ('fp16', '')
    """
    order = (PLAIN, *USUAL_VARIANTS)
    return min(variants, key=lambda each: (order.index(each) if each in order else len(order), each), default=None)


def _shard_fault(shards: list[re.Match[str]], names: list[str], variant: str) -> str:
    count = int(shards[0]["count"])
    missing = sorted(set(range(1, count + 1)) - {int(match["number"]) for match in shards})
    if missing:
        return f"{len(missing)} of its {count} shards are missing, the first is number {missing[0]}"
    return PLAIN if shard_index_of(names, variant) else "the .index.json that lists its shards is missing"
