"""Which requests can be rendered in one run of a pipeline: those of the same key. Pure."""

from collections.abc import Mapping
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
# Families that render prompts together only if they have as many blocks of tokens (decision 0096), with the bytes of
# UTF-8 that are taken for a block: a token has about four, in English as in Chinese. Where a block is one token, texts
# of as many bytes are taken for as many tokens. Only the runner counts them, so a group may still be cut there.
BYTES_A_BLOCK: Mapping[str, int] = {"qwen-image": 1, "qwen-image-edit": 1, "z-image": 4 * 32}


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


def text_bytes(request: RenderRequest) -> tuple[int, int]:
    """Bytes of the prompt and of the negative one: all that is kept of them to tell whether they go together."""
    return _one(len(request.prompt.encode()), len(request.negative_prompt.encode()))


def go_together(family: str, one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether texts of so many bytes (see `text_bytes`) are rendered in one run by models of a family, as far as these
    tell.

    >>> go_together("z-image", (60, 0), (120, 0)), go_together("qwen-image", (60, 0), (61, 0))
    (True, False)
    """
    block = BYTES_A_BLOCK.get(family)
    return block is None or all(-(-a // block) == -(-b // block) for a, b in zip(one, other, strict=True))


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


@lru_cache(maxsize=4096)
def _one(prompt: int, negative_prompt: int) -> tuple[int, int]:
    """Equal numbers are one object: a scheduler keeps them of each job."""
    return prompt, negative_prompt


@lru_cache(maxsize=1024)
def _hash(text: str) -> str:
    """Equal keys are one object: there are few of them and many jobs."""
    return blake2b(text.encode(), digest_size=KEY_BYTES).hexdigest()
