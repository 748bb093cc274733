"""What `generate` says beyond the prompt: words of the command line as fields of a submission."""

import asyncio
import re
from pathlib import Path
from typing import Any

from dreamforge.cli.client.gateway import Gateway
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.jobs import artifacts

SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
CONTENT_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


def size(text: str | None) -> dict[str, int]:
    """Width and height. Errors: CommandError that shows how a size is written.

    >>> size("512x768")
    {'width_px': 512, 'height_px': 768}
    """
    if text is None:
        return {}
    match = SIZE.fullmatch(text.lower())
    if match is None:
        raise CommandError(f"--size is {text!r}", Exit.REFUSED, hint="write it as WIDTHxHEIGHT, for example 512x768")
    return {"width_px": int(match[1]), "height_px": int(match[2])}


def loras(texts: list[str]) -> list[dict[str, Any]]:
    """Each `ID` or `ID:WEIGHT`. Errors: CommandError.

    >>> loras(["ink:0.8", "film"])
    [{'model_id': 'ink', 'weight': 0.8}, {'model_id': 'film'}]
    """
    return [_weighted(text, "--lora", "weight") for text in texts]


def _weighted(text: str, option: str, name: str) -> dict[str, Any]:
    model_id, colon, number = text.partition(":")
    try:
        return {"model_id": model_id, **({name: float(number)} if colon else {})}
    except ValueError:
        raise CommandError(
            f"{option} is {text!r}", Exit.REFUSED, hint=f"write it as ID or ID:NUMBER, for example {model_id}:0.8"
        ) from None


async def picture(gateway: Gateway, said: Path) -> str:
    """The hash of a picture: one that was painted here, named by its artifact's id, or a file, given to the gateway.

    Errors: CommandError for an artifact that is not there and for a file that cannot be a picture; ProblemError.
    """
    if artifacts.ARTIFACT_ID.fullmatch(str(said)):
        _, artifact = await artifacts.find(gateway, str(said))
        return str(artifact["sha256"])
    return await _uploaded(gateway, said)


async def _uploaded(gateway: Gateway, path: Path) -> str:
    content_type = CONTENT_TYPES.get(path.suffix.lower())
    if content_type is None:
        raise CommandError(
            f"{path} is no picture that can be uploaded",
            Exit.REFUSED,
            hint=f"these can: {', '.join(CONTENT_TYPES)}; an artifact's id names a picture that was painted here",
        )
    try:
        data = await asyncio.to_thread(path.read_bytes)
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}", Exit.REFUSED) from None
    return str((await gateway.upload(data, content_type))["sha256"])


async def control(gateway: Gateway, text: str | None, image: Path | None) -> dict[str, Any]:
    """A ControlNet as `ID` or `ID:SCALE`, with its picture. Errors: CommandError when one of the two is missing."""
    if text is None and image is None:
        return {}
    if text is None or image is None:
        raise CommandError(
            "a ControlNet needs its picture, and a picture its ControlNet",
            Exit.REFUSED,
            hint="give both: --control ID --control-image FILE",
        )
    return {"control": {**_weighted(text, "--control", "scale"), "image": await picture(gateway, image)}}
