"""Which requests can be rendered in one run of a pipeline: those of the same key. Pure."""

from functools import lru_cache
from hashlib import blake2b

from dreamforge.contracts.request.render_request import RenderRequest

# What may differ in one run. Every other parameter, also one that is declared tomorrow, has to be equal.
MAY_DIFFER = frozenset(
    {
        *("prompt", "negative_prompt", "prompt_syntax", "seed", "images", "preset"),
        *("determinism", "output_format", "output_quality"),
    }
)
KEY_BYTES = 8


def batch_key(request: RenderRequest) -> str | None:
    """A hash of all that images in one run must share; None: each image of the request is rendered alone.

    Alone are those that ask for it (`determinism`, `geometry`), and those whose run starts from images of their own.
    """
    own_images = request.uploads or request.upscale
    if request.determinism == "strict" or request.geometry is not None or own_images:
        return None
    return _hash(request.model_dump_json(exclude=set(MAY_DIFFER)))


@lru_cache(maxsize=1024)
def _hash(text: str) -> str:
    """Equal keys are one object: there are few of them and many jobs."""
    return blake2b(text.encode(), digest_size=KEY_BYTES).hexdigest()
