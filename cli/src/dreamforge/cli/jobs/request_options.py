"""Values of command line options as fields of a submission: the parsers that one parameter needs for itself."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from dreamforge.cli.client.gateway import GatewayClient, Json
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.jobs.artifacts import ARTIFACT_ID, find_artifact
from dreamforge.contracts.pictures.formats import content_type_of
from dreamforge.contracts.request.preprocessing import Preprocessing

# Names in the value of --control of what a request has in `preprocess`.
PREPROCESSING = {name: name for name in Preprocessing.model_fields} | {"preprocess": "name"}
SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
GEOMETRY = re.compile(r"(\d{1,3}):(\d{1,3})")


def size(text: str | None) -> dict[str, int]:
    """Width and height. Errors: CommandError that shows the format.

    >>> size("512x768")
    {'width_px': 512, 'height_px': 768}
    """
    if text is None:
        return {}
    match = SIZE.fullmatch(text.lower())
    if match is None:
        raise CommandError(f"--size is {text!r}", Exit.REFUSED, hint="write it as WIDTHxHEIGHT, for example 512x768")
    return {"width_px": int(match[1]), "height_px": int(match[2])}


def loras(texts: list[str]) -> list[Json]:
    """Each `ID`, `ID:WEIGHT` or `ID:WEIGHT:TEXT_WEIGHT`. Errors: CommandError.

    >>> loras(["ink:0.8", "film", "oil:0.8:0.5"])
    [{'model_id': 'ink', 'weight': 0.8}, {'model_id': 'film'}, {'model_id': 'oil', 'weight': 0.8, 'text_weight': 0.5}]
    """
    return [_weighted(text, "--lora", "weight", "text_weight") for text in texts]


def embeddings(texts: list[str]) -> list[Json]:
    """Each `ID`, or `ID:WORD` where another word stands for it.

    >>> embeddings(["bad-hands", "style-3:my style"])
    [{'model_id': 'bad-hands'}, {'model_id': 'style-3', 'word': 'my style'}]
    """
    parted = (text.partition(":") for text in texts)
    return [{"model_id": model_id} | ({"word": word} if word else {}) for model_id, _, word in parted]


def upscale(text: str) -> Json:
    """A second pass by its factor alone, or by a JSON object with more of it. Errors: CommandError.

    >>> upscale("2"), upscale('{"factor": 1.5, "steps": 30}')
    ({'factor': 2}, {'factor': 1.5, 'steps': 30})
    """
    try:
        given = json.loads(text)
    except ValueError:
        given = None
    if isinstance(given, dict):
        return given
    if isinstance(given, int | float) and not isinstance(given, bool):
        return {"factor": given}
    raise CommandError(
        f"--upscale is {text!r}", Exit.REFUSED, hint='write a factor, 2, or JSON: {"factor": 2, "strength": 0.5}'
    )


def geometry(text: str) -> dict[str, int]:
    """Size and place of a render batch. Errors: CommandError that shows the format.

    >>> geometry("8:3")
    {'size': 8, 'place': 3}
    """
    match = GEOMETRY.fullmatch(text)
    if match is None:
        raise CommandError(f"--geometry is {text!r}", Exit.REFUSED, hint="write it as SIZE:PLACE, for example 8:3")
    return {"size": int(match[1]), "place": int(match[2])}


def masked_area(padding_px: int) -> Json:
    """The masked area by what is around it."""
    return {"padding_px": padding_px}


def _weighted(text: str, option: str, *names: str) -> dict[str, Any]:
    """An id and as many numbers as there are names, at most."""
    model_id, *numbers = text.split(":", len(names))
    try:
        return {"model_id": model_id, **{name: float(number) for name, number in zip(names, numbers, strict=False)}}
    except ValueError:
        form = "ID" + "".join(f"[:{name.upper()}]" for name in names)
        raise CommandError(
            f"{option} is {text!r}", Exit.REFUSED, hint=f"write it as {form}, for example {model_id}:0.8"
        ) from None


def control_use(text: str, option: str = "--control") -> Json:
    """A ControlNet, or an image prompt, but for its image. Errors: CommandError.

    >>> control_use("edges:0.7,end=0.5,preprocess=canny,low=80")
    {'model_id': 'edges', 'scale': 0.7, 'end': 0.5, 'preprocess': {'name': 'canny', 'low': 80.0}}
    """
    named, *settings = text.split(",")
    use = _weighted(named, option, "scale")
    preprocess: Json = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            hint = "write it as ID, ID:SCALE or ID:SCALE,NAME=VALUE, for example canny:0.7,end=0.5"
            raise CommandError(f"{option} is {text!r}", Exit.REFUSED, hint=hint)
        if name in PREPROCESSING:
            preprocess[PREPROCESSING[name]] = _number_or_text(value)
        else:
            use[name] = _number_or_text(value)
    return use | ({"preprocess": preprocess} if preprocess else {})


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


async def control(gateway: GatewayClient, texts: list[str] | None, files: list[Path] | None) -> Json:
    """ControlNets, each with its image, in order. Errors: CommandError where one of the two is missing."""
    texts, files = texts or [], files or []
    if len(texts) != len(files):
        raise CommandError(
            f"a ControlNet and its image belong together: {len(texts)} --control, {len(files)} --control-image",
            Exit.REFUSED,
            hint="give both for each: --control ID --control-image FILE",
        )
    uses = [control_use(text) | {"image": await image(gateway, file)} for text, file in zip(texts, files, strict=True)]
    return {"control": uses} if uses else {}


async def image_prompts(gateway: GatewayClient, texts: list[str] | None) -> Json:
    """Image prompts, each with its image. Errors: CommandError where that is missing."""
    uses = []
    for text in texts or ():
        use, named, file = text.partition(",image=")
        if not named:
            hint = "write it as ID[:SCALE][,NAME=VALUE],image=FILE, for example plus:0.6,end=0.5,image=cat.png"
            raise CommandError(f"--image-prompt is {text!r}", Exit.REFUSED, hint=hint)
        uses.append(control_use(use, "--image-prompt") | {"image": await image(gateway, Path(file))})
    return {"image_prompts": uses} if uses else {}


async def image(gateway: GatewayClient, given: Path) -> str:
    """The hash of an image: an artifact, named by its id, or a file, which is uploaded.

    Errors: CommandError for an unknown artifact and for a file that is not an image; ProblemError.
    """
    if ARTIFACT_ID.fullmatch(str(given)):
        _, artifact = await find_artifact(gateway, str(given))
        return str(artifact["sha256"])
    return await _uploaded(gateway, given)


async def _uploaded(gateway: GatewayClient, path: Path) -> str:
    try:
        data = await asyncio.to_thread(path.read_bytes)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}", Exit.REFUSED) from None
    if (content_type := content_type_of(data)) is None:
        raise CommandError(
            f"{path} is not an image that can be uploaded",
            Exit.REFUSED,
            hint="its content must be PNG, JPEG, WebP or AVIF; an image rendered here is named by artifact id",
        )
    return str((await gateway.upload(data, content_type))["sha256"])
