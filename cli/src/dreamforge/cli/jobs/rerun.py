"""Rendering an artifact again: the request to submit, and how two images and their recipes differ. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from dreamforge.cli.failure import CommandError, Exit
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.request.resolve import inputs_of

if TYPE_CHECKING:
    from PIL.Image import Image

Json = dict[str, Any]  # Any: JSON


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two renders of one request. `differing` counts pixels; None if sizes differ. Changes are (name, was, is)."""

    same_bytes: bool
    pixels: int
    differing: int | None
    changes: tuple[tuple[str, str, str], ...]

    @property
    def same_pixels(self) -> bool:
        """Whether both show the same pixels."""
        return self.differing == 0


def submission(request: RenderRequest, seed: int) -> Json:
    """The body that requests one image of a request again, with all values that a preset could change."""
    return inputs_of(request) | {"seed": seed, "images": 1}


def compare(before: bytes, after: bytes, recipe_before: Json, recipe_after: Json) -> Comparison:
    """How the second render differs. Errors: CommandError for a file that no runner wrote."""
    first, second = _image(before), _image(after)
    differing = _differing(first, second) if first.size == second.size else None
    pixels = first.width * first.height
    return Comparison(before == after, pixels, differing, tuple(_changes(recipe_before, recipe_after)))


def _changes(before: Json, after: Json) -> Iterator[tuple[str, str, str]]:
    old, new = dict(_flat(before)), dict(_flat(after))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield name, str(old.get(name, "nothing")), str(new.get(name, "nothing"))


def _flat(recipe: Json, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in recipe.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _image(data: bytes) -> "Image":
    from PIL import Image as pillow  # noqa: N813 - the module

    try:
        with pillow.open(BytesIO(data), formats=("PNG", "JPEG", "WEBP", "AVIF")) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        raise CommandError(f"not a picture that a runner wrote: {error}", Exit.FAILED) from None


def _differing(first: "Image", second: "Image") -> int:
    """Pixels that differ in any channel."""
    from PIL import ImageChops

    red, green, blue = ImageChops.difference(first, second).split()
    unequal = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    return first.width * first.height - unequal.histogram()[0]
