"""From the metadata of a picture to the request that it says, whichever program wrote it. Pure."""

from collections.abc import Callable

from dreamforge.contracts.pictures.foreign.a1111 import read_a1111
from dreamforge.contracts.pictures.foreign.comfyui import read_comfyui
from dreamforge.contracts.pictures.foreign.fooocus import read_fooocus
from dreamforge.contracts.pictures.foreign.imported import ImportedRequest
from dreamforge.contracts.pictures.foreign.invokeai import read_invokeai
from dreamforge.contracts.pictures.foreign.novelai import read_novelai
from dreamforge.contracts.pictures.foreign.ours import read_ours
from dreamforge.contracts.pictures.foreign.swarmui import read_swarmui
from dreamforge.contracts.pictures.metadata import PictureMetadata

#: The most exact statement first: programs write the text of A1111 beside their own, for others.
READERS: tuple[Callable[[PictureMetadata], ImportedRequest | None], ...] = (
    read_ours,
    read_invokeai,
    read_novelai,
    read_swarmui,
    read_fooocus,
    read_comfyui,
    read_a1111,
)


def read_request(metadata: PictureMetadata) -> ImportedRequest | None:
    """The request; None where no program that is known wrote one into the picture."""
    return next((found for read in READERS if (found := read(metadata)) is not None), None)
