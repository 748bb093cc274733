"""What a node of a workflow takes and gives: the form of the declarations in `nodes`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Source = Literal["models", "vaes", "loras", "controlnets", "samplers", "schedulers", "images", "ip_adapters"]
LINK_KINDS = frozenset(
    (
        *("MODEL", "CLIP", "VAE", "CONDITIONING", "LATENT", "IMAGE", "MASK", "CONTROL_NET"),
        *("NOISE", "GUIDER", "SAMPLER", "SIGMAS"),
        *("CLIP_VISION", "CLIP_VISION_OUTPUT", "STYLE_MODEL", "IPADAPTER"),
    )
)


@dataclass(frozen=True, slots=True)
class Input:
    """What a node takes: a link of a kind, or a value: INT, FLOAT, STRING or COMBO (one of some choices)."""

    kind: str
    default: object = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    source: Source | None = None
    """Choices that this installation has."""
    optional: bool = False

    @property
    def is_link(self) -> bool:
        """Whether another node must give it."""
        return self.kind in LINK_KINDS


@dataclass(frozen=True, slots=True)
class NodeType:
    """A kind of node. `note` says what of it is honoured, where that is not all."""

    title: str
    category: str
    inputs: Mapping[str, Input]
    outputs: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """Of the outputs, where they are not those of their kinds."""
    shows_images: bool = False
    note: str = field(default="", compare=False)


def link(kind: str) -> Input:
    """A link of a kind."""
    return Input(kind)


def number(default: float, minimum: float, maximum: float) -> Input:
    """A FLOAT with its default and bounds."""
    return Input("FLOAT", default, minimum, maximum)


def whole(default: int, minimum: int, maximum: int) -> Input:
    """An INT with its default and bounds."""
    return Input("INT", default, minimum, maximum)


def one_of(*choices: str) -> Input:
    """One of some choices, the first by default."""
    return Input("COMBO", choices[0], choices=choices)


def chosen_from(source: Source) -> Input:
    """One of what this installation has."""
    return Input("COMBO", source=source)
