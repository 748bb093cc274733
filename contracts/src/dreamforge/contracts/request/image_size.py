"""The size of a render that takes the size of its image (`resize_mode` image_size). Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.contracts.request.limits import Limits

Size = tuple[int, int]
# Width and height in pixels, as a viewer shows it, by SHA-256.
ImageSizes = Mapping[str, Size]


@dataclass(eq=False)
class ImageSizeNeeded(ForgeError):
    """A request takes the size of an image that was not read yet: no error of a client."""

    code = "image_size_needed"
    field: str
    sha256: str

    def __str__(self) -> str:
        return f"the size of {self.field} ({self.sha256}) must be read first"


def image_sides(
    given: Mapping[str, Any],  # Any: see `resolve.Given`
    model: ModelDescriptor,
    limits: Limits,
    image_sizes: ImageSizes,
) -> dict[str, int]:
    """The sides that a request takes from its image: those that it does not state. Errors: ImageSizeNeeded.

    Those of an upscaler are the image's times its scale, as far as the bounds go.
    """
    named = _image(given)
    if named is None or (given.get("resize_mode") != "image_size" and model.scale is None):
        return {}
    wide, high = size_of(*named, image_sizes)
    size = wide * (model.scale or 1), high * (model.scale or 1)
    stated = given.get("width_px"), given.get("height_px")
    width_px, height_px = size_like(size, stated, model, pixels_max(model, limits))
    return {"width_px": width_px, "height_px": height_px}


def pixels_max(model: ModelDescriptor, limits: Limits) -> int:
    """How large a finished image may be: one that is only enlarged, as large as an upload."""
    return limits.upload_pixels if model.kind == "upscaler" else limits.pixels


def size_of(field: str, sha256: str, image_sizes: ImageSizes) -> Size:
    """The size of an image that a field names. Errors: ImageSizeNeeded."""
    if (size := image_sizes.get(sha256)) is None:
        raise ImageSizeNeeded(field, sha256)
    return size


def size_like(image: Size, stated: tuple[int | None, int | None], model: ModelDescriptor, pixels_max: int) -> Size:
    """The size nearest to an image's that a model renders, in the image's shape where the model's bounds allow it.

    A stated side stays, and the other follows from it by the shape.
    """
    width, height = stated
    if width is not None and height is not None:
        return width, height
    if width is not None:
        return width, _side(image[1] * width / image[0], model)
    if height is not None:
        return _side(image[0] * height / image[1], model), height
    within = min(1.0, model.side_px_max / max(image), (pixels_max / (image[0] * image[1])) ** 0.5)
    scale = max(within, model.side_px_min / min(image))
    width, height = _side(image[0] * scale, model), _side(image[1] * scale, model)
    while width * height > pixels_max and max(width, height) > model.size_multiple_px:  # both were rounded up
        if width >= height:
            width -= model.size_multiple_px
        else:
            height -= model.size_multiple_px
    return width, height


def _side(wanted_px: float, model: ModelDescriptor) -> int:
    multiple = model.size_multiple_px
    least, most = -(-model.side_px_min // multiple), model.side_px_max // multiple
    return max(least, min(most, round(wanted_px / multiple))) * multiple


def _image(given: Mapping[str, Any]) -> tuple[str, str] | None:  # Any: see `resolve.Given`
    if (sha256 := given.get("init_image")) is not None:
        return "init_image", sha256
    control = given.get("control")
    return ("control/0/image", control[0].image) if control else None
