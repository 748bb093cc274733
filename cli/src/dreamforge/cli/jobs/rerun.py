"""Rendering an artifact again: the request to submit, and how two images and their recipes differ. Pure."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from dreamforge.cli.failure import CommandError, Exit
from dreamforge.contracts.pictures.formats import content_type_of
from dreamforge.contracts.pictures.mp4 import poster_of
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.request.resolve import inputs_of

if TYPE_CHECKING:
    from PIL.Image import Image

Json = dict[str, Any]  # Any: JSON


# What a field of a recipe is about, by the beginning of its name; the first that matches. The rest is the request.
CAUSES = (
    ("device", "hardware"),
    ("versions.mkl_cbwr", "determinism setting"),
    ("threads", "determinism setting"),
    ("versions", "library"),
    ("renderer", "library"),
    ("pipeline", "library"),
    ("dtype", "precision"),
    ("tier", "memory placement"),
    ("geometry", "batch geometry"),
    ("optimisations", "optimisation"),
    ("model_digest", "weights"),
)
LEVELS = 255  # of a channel, from none to full


@dataclass(frozen=True, slots=True)
class RecipeChange:
    """A field in which two recipes differ, and what it is about (see CAUSES)."""

    name: str
    was: str
    now: str

    @property
    def cause(self) -> str:
        """
        >>> RecipeChange("versions.torch", "2.13.0", "2.14.0").cause, RecipeChange("prompt", "a", "b").cause
        ('library', 'request')
        """
        return next((cause for beginning, cause in CAUSES if self.name.startswith(beginning)), "request")


@dataclass(frozen=True, slots=True)
class PixelDifference:
    """How far two images of one size are apart.

    `pixels` differ in any channel, by `levels` of 255 at most; `psnr_db`: peak signal-to-noise ratio over all channels
    of all pixels, None for equal images.
    """

    pixels: int
    levels: int
    psnr_db: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two renders of one request. No `difference` if their sizes differ."""

    same_bytes: bool
    pixels: int
    difference: PixelDifference | None
    changes: tuple[RecipeChange, ...]

    @property
    def same_pixels(self) -> bool:
        """Whether both show the same pixels."""
        return self.difference is not None and self.difference.pixels == 0

    @property
    def causes(self) -> tuple[str, ...]:
        """What can have changed pixels, in the order of CAUSES; nothing where the recipes are the same."""
        order = [*dict.fromkeys(cause for _, cause in CAUSES), "request"]
        return tuple(sorted({change.cause for change in self.changes}, key=order.index))


def submission(request: RenderRequest, seed: int, recipe: Json) -> Json:
    """The body that requests one image of a request again, with all values that a preset could change.

    In the geometry of its recipe, and with its optimisations: an image that was rendered alone is rendered alone again.
    """
    geometry = recipe.get("geometry")
    how = {"determinism": "strict"} if geometry is None else {"geometry": geometry}
    if "optimisations" in recipe:
        how |= {"optimisations": recipe["optimisations"]}
    body = {name: value for name, value in inputs_of(request).items() if name != "optimisations"}
    body |= {"seed": seed, "images": 1} | how
    if (second_seed := request.second_seed(seed)) is not None:
        body["upscale"]["seed"] = second_seed
    return body


def compare(before: bytes, after: bytes, recipe_before: Json, recipe_after: Json) -> Comparison:
    """How the second render differs; of a video its first frame. Errors: CommandError if no runner wrote it."""
    first, second = _image(before), _image(after)
    difference = _difference(first, second) if first.size == second.size else None
    pixels = first.width * first.height
    return Comparison(before == after, pixels, difference, tuple(_changes(recipe_before, recipe_after)))


def _changes(before: Json, after: Json) -> Iterator[RecipeChange]:
    old, new = dict(_flat(before)), dict(_flat(after))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            yield RecipeChange(name, str(old.get(name, "nothing")), str(new.get(name, "nothing")))


def _flat(recipe: Json, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in recipe.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _image(data: bytes) -> "Image":
    from PIL import Image as pillow  # noqa: N813 - the module

    if content_type_of(data) == "video/mp4":
        data = poster_of(data) or b""
    try:
        with pillow.open(BytesIO(data), formats=("PNG", "JPEG", "WEBP", "AVIF")) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, pillow.DecompressionBombError) as error:
        raise CommandError(f"not a picture that a runner wrote: {error}", Exit.FAILED) from None


def _difference(first: "Image", second: "Image") -> PixelDifference:
    from PIL import ImageChops

    apart = ImageChops.difference(first, second)
    red, green, blue = apart.split()
    levels = ImageChops.lighter(ImageChops.lighter(red, green), blue).histogram()
    pixels = first.width * first.height
    squares = sum(count * (place % (LEVELS + 1)) ** 2 for place, count in enumerate(apart.histogram()))
    psnr_db = 10 * math.log10(LEVELS**2 * 3 * pixels / squares) if squares else None
    return PixelDifference(pixels - levels[0], max(level for level, count in enumerate(levels) if count), psnr_db)
