"""The recipe inside a PNG of ours, read as any program would: by Pillow."""

import io

from PIL.PngImagePlugin import PngImageFile

from dreamforge.contracts.pictures.metadata import RECIPE_KEY
from dreamforge.gpu_runner.protocol.recipe import Recipe


def read_recipe(png: bytes) -> Recipe:
    """Errors: KeyError for a PNG without a recipe, SyntaxError for what is no PNG, ValidationError."""
    with PngImageFile(io.BytesIO(png)) as image:
        image.load()
        return Recipe.model_validate_json(image.text[RECIPE_KEY])
