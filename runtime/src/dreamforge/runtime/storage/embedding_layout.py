"""What a file of a textual inversion is: a few vectors in place of those that a text encoder has for a word. Pure."""

from collections.abc import Mapping

#: Widths of the text encoders of Stable Diffusion 1 and 2.
FAMILY_OF_WIDTH = {768: "stable-diffusion", 1024: "stable-diffusion-2"}
#: The names of A1111 and ComfyUI for the vectors of SDXL's two encoders, with their widths.
SDXL_WIDTHS = {"clip_l": 768, "clip_g": 1280}
#: CLIP reads 77 tokens, two of which are its marks.
VECTORS_MAX = 75


def embedding_family(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The family that an embedding is for; None where the tensors are no embedding that is read.

    Shapes: (vectors, width), or (width,) for a single one. One tensor of any name is one of Stable Diffusion 1 or 2:
    A1111 calls it `emb_params`, diffusers by its word.

    >>> embedding_family({"emb_params": (8, 768)}), embedding_family({"clip_l": (2, 768), "clip_g": (2, 1280)})
    ('stable-diffusion', 'stable-diffusion-xl')
    """
    plain = {name: shape if len(shape) > 1 else (1, *shape) for name, shape in shapes.items()}
    if any(len(shape) != 2 or not 1 <= shape[0] <= VECTORS_MAX for shape in plain.values()):
        return None
    if {name: shape[1] for name, shape in plain.items()} == SDXL_WIDTHS:
        return "stable-diffusion-xl" if len({shape[0] for shape in plain.values()}) == 1 else None
    return FAMILY_OF_WIDTH.get(next(iter(plain.values()))[1]) if len(plain) == 1 else None
