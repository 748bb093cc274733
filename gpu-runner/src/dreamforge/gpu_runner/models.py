"""Which models this runner can paint with: folders on its disk that say what they are, checked before they count."""

import asyncio
import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from loguru import logger
from pydantic import ValidationError

from dreamforge.contracts.models import ModelDescriptor, Preset, VramProfile
from dreamforge.gpu_runner.digest import DESCRIPTOR_NAME, model_digest
from dreamforge.gpu_runner.libraries import ENVIRONMENT
from dreamforge.gpu_runner.settings import RunnerSettings

#: The synthetic renderer has no weights; its name and version are its identity.
SYNTHETIC_DIGEST = hashlib.sha256(b"dreamforge synthetic renderer 1").hexdigest()


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model and the folder it is loaded from."""

    descriptor: ModelDescriptor
    folder: Path


async def find_models(settings: RunnerSettings) -> dict[str, LocalModel]:
    """The models this runner can serve, by id; builds the tiny one where there is none and that is wished."""
    if settings.runner_renderer == "synthetic":
        return {"synthetic": LocalModel(synthetic_descriptor(), Path("."))}
    if settings.runner_tiny_model and not _folders(settings.models_dir):
        await build_tiny(settings.models_dir)
    # Hashing gigabytes blocks; the heartbeat must not wait for it.
    return await asyncio.to_thread(read_models, settings.models_dir)


def read_models(models_dir: Path) -> dict[str, LocalModel]:
    """Every model below `models_dir` whose content is what its descriptor says; the others with a warning."""
    models: dict[str, LocalModel] = {}
    for folder in _folders(models_dir):
        if (model := _read_model(folder)) is None:
            continue
        if model.descriptor.model_id in models:
            logger.warning("{}: there is another model {!r}; skipped", folder, model.descriptor.model_id)
            continue
        models[model.descriptor.model_id] = model
    return models


async def build_tiny(models_dir: Path) -> None:
    """Build the tiny model in a process of its own: this one stays without torch.

    Errors: none; a runner without models says so and goes on, since models may be put there.
    """
    logger.info("no model in {}: building the tiny one (once, a few seconds)", models_dir)
    command = ("-m", "dreamforge.gpu_runner.tiny", str(models_dir))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.DEVNULL, env={**ENVIRONMENT, **os.environ}
    )
    try:
        if await process.wait() != 0:
            logger.error("building the tiny model failed with status {}", process.returncode)
    finally:
        if process.returncode is None:
            process.kill()


def synthetic_descriptor() -> ModelDescriptor:
    """What the registry should know of the synthetic renderer."""
    return ModelDescriptor(
        model_id="synthetic",
        title="Mosaics without a model, for benchmarks",
        family="synthetic",
        licence="none needed: there are no weights",
        digest=SYNTHETIC_DIGEST,
        size_multiple_px=8,
        side_px_min=8,
        side_px_max=4096,
        vram=VramProfile(resident_bytes=0, denoise_bytes_per_latent=0, decode_bytes_per_px=0),
        presets=(Preset(name="standard", title="Mosaic", width_px=64, height_px=64, steps=4, guidance_scale=1.0),),
    )


def _folders(models_dir: Path) -> list[Path]:
    return sorted(path.parent for path in models_dir.glob(f"*/{DESCRIPTOR_NAME}"))


def _read_model(folder: Path) -> LocalModel | None:
    try:
        descriptor = ModelDescriptor.model_validate_json((folder / DESCRIPTOR_NAME).read_bytes())
        found = model_digest(folder)
    except (OSError, ValidationError) as error:
        logger.warning("{}: not a model that can be served: {}", folder, error)
        return None
    if found != descriptor.digest:
        logger.error("{}: its content is not what {} says (sha256 {}); skipped", folder, DESCRIPTOR_NAME, found)
        return None
    return LocalModel(descriptor, folder)
