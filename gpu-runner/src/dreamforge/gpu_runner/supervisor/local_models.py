"""Which models this runner has: folders on its disk with a descriptor, checked before they count."""

import asyncio
import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from loguru import logger
from pydantic import ValidationError

from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.models.descriptor_file import DescriptorInvalid, check_family, problems_of
from dreamforge.gpu_runner.machine.libraries import ENVIRONMENT
from dreamforge.gpu_runner.settings import RunnerSettings
from dreamforge.runtime.sandbox.environment import renderer_environment
from dreamforge.runtime.storage.descriptor_fit import fitted
from dreamforge.runtime.storage.model_facts import BYTE_ORDER_MARK
from dreamforge.runtime.storage.model_folder import (
    DESCRIPTOR_NAME,
    Fault,
    ModelFilesWrong,
    faults_of,
    files_of,
    model_digest,
    refuse_foreign_files,
    survey,
)
from dreamforge.runtime.storage.model_inspection import inspect_model

#: The synthetic renderer has no weights; its name and version are its identity.
SYNTHETIC_DIGEST = hashlib.sha256(b"dreamforge synthetic renderer 1").hexdigest()


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model and the folder it is loaded from."""

    descriptor: ModelDescriptor
    folder: Path


#: Of a folder: its files with sizes and times of change, and what was read when they were so; None: no model.
Seen = dict[Path, tuple[tuple[object, ...], LocalModel | None]]


async def find_models(settings: RunnerSettings, seen: Seen, *, build: bool = True) -> dict[str, LocalModel]:
    """The models this runner can serve, by id; builds the tiny one where there is none and settings ask for it.

    `seen` is kept between calls: a folder that did not change since is not hashed again.
    """
    if settings.runner_renderer == "synthetic":
        return {"synthetic": LocalModel(synthetic_descriptor(), Path("."))}
    if build and settings.runner_tiny_model and not _folders(settings.models_dir):
        await build_tiny(settings.models_dir)
    # Hashing gigabytes blocks; the heartbeat must not wait for it.
    return await asyncio.to_thread(read_models, settings.models_dir, seen)


def read_models(models_dir: Path, seen: Seen | None = None) -> dict[str, LocalModel]:
    """Every model below `models_dir` whose content is what its descriptor says; the others with the reason."""
    models: dict[str, LocalModel] = {}
    seen = {} if seen is None else seen
    folders = _folders(models_dir)
    for gone in seen.keys() - set(folders):
        del seen[gone]
    for folder in folders:
        if (model := _read_once(folder, seen)) is None:
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
    command = ("-m", "dreamforge.gpu_runner.rendering", "tiny_model", str(models_dir))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.DEVNULL, env=ENVIRONMENT | renderer_environment(os.environ)
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


def changed(settings: RunnerSettings, seen: Seen) -> bool:
    """Whether another look would find other folders than those in `seen`. Blocking, and cheap: it reads no file."""
    if settings.runner_renderer == "synthetic":
        return False
    folders = _folders(settings.models_dir)
    return set(folders) != seen.keys() or any(_signature(folder) != seen[folder][0] for folder in folders)


def _read_once(folder: Path, seen: Seen) -> LocalModel | None:
    now = _signature(folder)
    if folder in seen and seen[folder][0] == now:
        return seen[folder][1]
    model = None
    try:
        model = read_model(folder)
    except (OSError, ForgeError) as error:
        logger.error("{}: not a model that can be served: {}", folder, error)
    seen[folder] = (now, model)
    return model


def _signature(folder: Path) -> tuple[object, ...]:
    try:
        states = [(path, path.stat()) for path in (folder / DESCRIPTOR_NAME, *files_of(folder))]
    except OSError:  # it is just being written or removed: the next look tells
        return ()
    return tuple((str(path), state.st_size, state.st_mtime_ns, state.st_ino) for path, state in states)


def read_model(folder: Path) -> LocalModel:
    """One model's folder, read as a whole and compared with what it says of itself.

    Errors: DescriptorInvalid, UnknownFamily, PickleRefused, ModelFileRefused, ModelFilesWrong with each file that is
    wrong, ModelUnusable with the part that cannot be loaded, OSError.
    """
    path = folder / DESCRIPTOR_NAME
    try:
        descriptor = ModelDescriptor.model_validate_json(path.read_bytes().removeprefix(BYTE_ORDER_MARK))
    except ValidationError as error:
        raise DescriptorInvalid(str(path), problems_of(error)) from None
    check_family(descriptor.family, str(path))
    refuse_foreign_files(folder)
    if (found := model_digest(folder)) != descriptor.digest:
        raise ModelFilesWrong(str(folder), _faults(descriptor, folder, found))
    facts = inspect_model(folder)
    saved = {"eight_bit_saved_bytes": facts.eight_bit_saved_bytes}
    return LocalModel(_with_networks(fitted(descriptor, facts).model_copy(update=saved), folder), folder)


def _with_networks(descriptor: ModelDescriptor, folder: Path) -> ModelDescriptor:
    """The descriptor with what only the files say: layers of its CLIP text encoders, and its transformers."""
    layers = []
    for path in sorted(folder.glob("text_encoder*/config.json")):
        configuration = json.loads(path.read_bytes())
        if str(configuration.get("model_type", "")).startswith("clip"):
            layers.append(int(configuration["num_hidden_layers"]))
    found = {"second_transformer": (folder / "transformer_2" / "config.json").is_file()}
    return descriptor.model_copy(update=found | ({"text_encoder_layers": min(layers)} if layers else {}))


def _faults(descriptor: ModelDescriptor, folder: Path, found: str) -> tuple[Fault, ...]:
    """Which files are wrong, where they were pinned one by one."""
    pinned = descriptor.source.files if descriptor.source else ()
    faults = faults_of(pinned, survey(folder).files) if pinned else ()
    return faults or (Fault("all files", f"have digest {found}, but must have {descriptor.digest}"),)
