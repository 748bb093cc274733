"""The weights in a tag of A1111, `<lora:NAME:...>`: one for all of a LoRA, or one for each of its parts. Pure."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

#: What a LoRA acts on, by A1111's names and in the order of a tag's weights: the text encoders, and the network that
#: denoises. Source: extensions-builtin/Lora/extra_networks_lora.py of A1111 1.10.
PARTS = ("te", "unet")
_WEIGHT = re.compile(r"(?:(?P<part>te|unet)=)?(?P<number>[+-]?(?:\d+\.?\d*|\.\d+))", re.ASCII)


class LoraWeights(NamedTuple):
    """`text` is None where it is that of the rest."""

    weight: float = 1.0
    text: float | None = None


def weights_in(parts: Sequence[str]) -> LoraWeights | None:
    """What follows the name in a tag, split at its colons; None: it says something else.

    >>> weights_in(("0.5",)), weights_in(("0.5", "0.8"))
    (LoraWeights(weight=0.5, text=None), LoraWeights(weight=0.8, text=0.5))
    >>> weights_in(("unet=0.8",)), weights_in(("0.5", "0.6", "0.7"))
    (LoraWeights(weight=0.8, text=1.0), None)
    """
    unnamed = [name for name in PARTS if not any(part.startswith(f"{name}=") for part in parts)]
    found: dict[str, float] = {}
    for part in parts:
        match = _WEIGHT.fullmatch(part)
        name = match and (match["part"] or (unnamed.pop(0) if unnamed else None))
        number = float(match["number"]) if match else math.inf
        if name is None or name in found or not math.isfinite(number):
            return None
        found[name] = number
    text = found.get("te", 1.0)
    weight = found.get("unet", text)
    return LoraWeights(weight, None if text == weight else text)
