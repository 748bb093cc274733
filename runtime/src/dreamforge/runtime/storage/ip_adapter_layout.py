"""What an IP-Adapter's file is, from the names and shapes of its tensors. Pure.

Its publisher keeps the image encoder that it was trained with apart; here both are one folder: the file, and a folder
`image_encoder` beside it.
"""

from collections.abc import Iterable, Mapping
from typing import Literal

from dreamforge.runtime.storage.lora_layout import FAMILY_OF_TEXT_WIDTH

#: The folder with the image encoder, as the repositories of IP-Adapters call it.
ENCODER = "image_encoder"
#: Its two groups of tensors: what makes tokens of an image, and the layers that read them.
PROJECTION, LAYERS = "image_proj.", "ip_adapter."
#: The first layer of all: its width is that of the texts that the model reads.
FIRST_LAYER = f"{LAYERS}1.to_k_ip.weight"
#: What an adapter reads of an image: one vector for all of it, or one for each of its patches.
Reads = Literal["image", "patches"]
#: The tensor that only one kind of projection has.
READS_OF: Mapping[str, Reads] = {"proj.weight": "image", "proj.3.weight": "patches", "latents": "patches"}


def is_ip_adapter(names: Iterable[str]) -> bool:
    """Whether the tensors are those of an IP-Adapter, of a kind that is read or not."""
    names = list(names)
    return all(any(name.startswith(start) for name in names) for start in (PROJECTION, LAYERS))


def reads_of(names: Iterable[str]) -> Reads | None:
    """What the adapter reads; None where it is not an image: those of faces read what another network found in one."""
    have = set(names)
    return next((reads for name, reads in READS_OF.items() if PROJECTION + name in have), None)


def ip_adapter_family(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The family that an adapter is for; None where its widths do not tell."""
    shape = shapes.get(FIRST_LAYER, ())
    return FAMILY_OF_TEXT_WIDTH.get(shape[1]) if len(shape) == 2 else None
