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

    Alone are those that ask for it (`determinism`, `geometry`), and those whose second pass is one of tiles. What
    a run is about beside its prompts is the same for all of its images: the image to start from, those of ControlNets,
    references, image prompts.
    """
    asked_alone = request.determinism == "strict" or request.geometry is not None
    in_tiles = request.upscale is not None and request.upscale.tile_px is not None
    if asked_alone or in_tiles:
        return None
    return _hash(request.model_dump_json(exclude=set(MAY_DIFFER)))


def step_work(request: RenderRequest) -> str:
    """What a step does beside the plain one of its shape: times of one kind are no measure of another. Empty: nothing.

    Of an image that is rendered over, encoding it is spread over fewer steps; a ControlNet is half a denoiser more, an
    image prompt a layer more beside each that reads the text; a reference is denoised beside the image, as large as it.
    Eight bits are computed faster, or slower, than the rest.
    """
    mode = "" if request.mode == "text" else request.mode
    control = f"control {len(request.control)}" if request.control else ""
    shown = f"image prompts {len(request.image_prompts)}" if request.image_prompts else ""
    references = f"references {len(request.references)}" if request.references else ""
    upscale, quantised = "upscale" if request.upscale else "", request.quantised_to or ""
    return ", ".join(filter(None, (mode, control, shown, references, upscale, quantised)))


@lru_cache(maxsize=1024)
def _hash(text: str) -> str:
    """Equal keys are one object: there are few of them and many jobs."""
    return blake2b(text.encode(), digest_size=KEY_BYTES).hexdigest()
