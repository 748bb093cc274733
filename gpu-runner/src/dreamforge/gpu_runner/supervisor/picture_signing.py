"""Content credentials for finished images, here and not in the child: the child never has the key."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from loguru import logger

from dreamforge.contracts.pictures.recipe_hash import recipe_sha256
from dreamforge.gpu_runner.protocol.messages import Image
from dreamforge.gpu_runner.settings import RunnerSettings
from dreamforge.runtime import clock
from dreamforge.runtime.service.settings import InvalidSettings

#: An image of a job and its recipe as JSON; the image as it is stored.
SignPicture = Callable[[Image, str, Mapping[str, Any]], Awaitable[Image]]


async def unsigned(image: Image, job_id: str, recipe: Mapping[str, Any]) -> Image:  # noqa: ARG001
    """The image as it is."""
    return image


def picture_signing(settings: RunnerSettings) -> SignPicture:
    """What signs with the certificate of the settings; without one images stay as they are. Errors: InvalidSettings."""
    if not settings.runner_certificate:
        return unsigned
    # The library is 50 MB: only who signs loads it.
    from dreamforge.runtime.pictures.credentials import CredentialsError, Origin, PictureSigner

    try:
        signer = PictureSigner(Path(settings.runner_certificate).read_text(), _key(settings))
    except (OSError, UnicodeDecodeError, CredentialsError) as error:
        raise InvalidSettings((f"FORGE_RUNNER_CERTIFICATE, FORGE_RUNNER_CERTIFICATE_KEY: {error}",)) from None

    async def sign(image: Image, job_id: str, recipe: Mapping[str, Any]) -> Image:
        origin = Origin(job_id, image.image_index, recipe_sha256(recipe), clock.now())
        try:
            data = await asyncio.to_thread(signer.sign, image.body, image.content_type, origin)
        except CredentialsError as error:  # an expired certificate costs the signature and never the picture
            logger.error("an image of job {} is stored without content credentials: {}", job_id, error)
            return image
        return image.model_copy(update={"body": data, "sha256": hashlib.sha256(data).hexdigest()})

    return sign


def _key(settings: RunnerSettings) -> str:
    given = settings.runner_certificate_key.get_secret_value()
    return given if given.lstrip().startswith("-----BEGIN") else Path(given).read_text()
