"""What a folder of models of another program holds: ComfyUI, A1111, Forge, SwarmUI, InvokeAI, the cache of the hub.

What a file is, its header says; where that is not enough, the folder that its program keeps it in. Headers and
configurations are read, no weights, and no byte of a pickle.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dreamforge.contracts.models.model_files import is_pickle
from dreamforge.runtime.storage.ip_adapter_layout import ENCODER
from dreamforge.runtime.storage.model_facts import ModelFacts, ModelUnusable
from dreamforge.runtime.storage.model_inspection import inspect_model, snapshot_of
from dreamforge.runtime.storage.pipeline_class import INDEX_NAME

#: Folders and files that are looked at: a large collection has some thousand.
ENTRIES_MAX = 200_000
#: Files of weights by their names; others in such folders are previews and descriptions.
_WEIGHTS = (".safetensors", ".sft", ".gguf", ".ckpt", ".pt", ".pth", ".bin")
_HUB_FOLDER = "models--"
#: Folders of ComfyUI, A1111, Forge, SwarmUI and InvokeAI, in lower case, by what is kept in them.
KIND_OF_FOLDER = {
    "checkpoints": "checkpoint", "stable-diffusion": "checkpoint", "main": "checkpoint",
    "diffusion_models": "transformer or U-Net", "unet": "transformer or U-Net",
    "lora": "lora", "loras": "lora", "lycoris": "lora",
    "vae": "vae", "vae_approx": "vae",
    "controlnet": "controlnet", "t2i_adapter": "controlnet",
    "embedding": "embedding", "embeddings": "embedding",
    "clip": "text encoder", "text_encoders": "text encoder", "text_encoder": "text encoder",
    "ipadapter": "ip_adapter", "ip_adapter": "ip_adapter", "clip_vision": "image encoder",
    "upscale_models": "upscaler", "esrgan": "upscaler", "realesrgan": "upscaler",
}  # fmt: skip
#: Folders that tell whose tree it is, below `models` or not.
_MARKS = (
    ("A1111 or Forge", ("models/Stable-diffusion", "Stable-diffusion")),
    ("SwarmUI", ("Models/Stable-Diffusion", "Stable-Diffusion")),
    ("ComfyUI", ("models/checkpoints", "checkpoints")),
    ("InvokeAI", ("models/sd-1", "models/sdxl", "models/any", "sd-1", "sdxl", "invokeai.yaml")),
)
#: What the reason of a file that cannot be registered alone says of its kind.
_KIND_OF_REASON = {
    "textual inversion": "embedding",
    "autoencoder": "vae",
    "ControlNet": "controlnet",
    "upscaler": "upscaler",
    "text encoder": "text encoder",
    "transformer of": "transformer or U-Net",
    "only a U-Net": "transformer or U-Net",
}
_PICKLE = "is a pickle, and reading it runs whatever code it holds: take the same weights as .safetensors"

_FAMILY_ASKED = "its weights do not say which models it fits: add it alone, with dreamforge models add FILE --family"


class TooManyEntries(Exception):
    """The folder has more entries than a tree of models has."""


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model on the disk. `problem`: why it cannot be registered, "" where it can."""

    path: Path
    kind: str
    size_bytes: int
    family: str | None = None
    problem: str = ""


def layout_of(folder: Path) -> str:
    """Whose tree a folder is, as far as its own folders tell; "" where they do not."""
    if any(True for _ in _hub_folders(folder)):
        return "Hugging Face cache"
    # Two trees differ in the case of letters alone, which some disks do not tell apart.
    return next((name for name, marks in _MARKS if any(_exists_exactly(folder, mark) for mark in marks)), "")


def scan(folder: Path) -> Iterator[FoundModel]:
    """Every model in a folder, in the order of their paths. Errors: TooManyEntries, OSError of the folder itself."""
    for path in _candidates(folder):
        try:
            yield _found(path, folder)
        except OSError as error:
            yield FoundModel(path, _kind_by_folder(path, folder), 0, problem=f"cannot be read: {error.strerror}")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file of weights, which other programs name it by; "" for a folder. Reads all of it."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _candidates(folder: Path) -> Iterator[Path]:
    """Files of weights, and folders that are one model."""
    entries = 0
    for root, folders, files in os.walk(folder):
        here = Path(root)
        entries += len(folders) + len(files)
        if entries > ENTRIES_MAX:
            raise TooManyEntries(f"{folder} has more than {ENTRIES_MAX} entries: name the folder of the models in it")
        folders.sort()
        if _is_one_model(here, files):
            folders.clear()
            yield here
            continue
        folders[:] = [each for each in folders if not each.startswith(".")]
        yield from (here / name for name in sorted(files) if name.lower().endswith(_WEIGHTS))


def _is_one_model(folder: Path, files: list[str]) -> bool:
    """A pipeline, a part of one, or a repository in the cache of the hub."""
    if folder.name.startswith(_HUB_FOLDER) and (folder / "snapshots").is_dir():
        return True
    has_weights = any(name.lower().endswith(_WEIGHTS) for name in files)
    return INDEX_NAME in files or ("config.json" in files and has_weights) or _is_ip_adapter(folder, files)


def _is_ip_adapter(folder: Path, files: list[str]) -> bool:
    """One file, and its image encoder."""
    return sum(name.endswith(".safetensors") for name in files) == 1 and (folder / ENCODER).is_dir()


def _found(path: Path, root: Path) -> FoundModel:
    size_bytes = _size_of(path)
    if path.is_file() and is_pickle(path.name):
        return FoundModel(path, _kind_by_folder(path, root), size_bytes, problem=_PICKLE)
    try:
        facts = inspect_model(path)
    except ModelUnusable as error:
        kind = next((kind for words, kind in _KIND_OF_REASON.items() if words in error.reason), "")
        says = f"{error.part} {error.reason}; {error.right}".strip()
        return FoundModel(path, kind or _kind_by_folder(path, root), size_bytes, problem=says)
    problem = _FAMILY_ASKED if facts.kind == "vae" and facts.family is None else ""
    return FoundModel(path, _kind_of(facts, path), size_bytes, facts.family, problem)


def _kind_of(facts: ModelFacts, path: Path) -> str:
    return "checkpoint" if facts.kind == "pipeline" and path.is_file() else facts.kind


def _kind_by_folder(path: Path, root: Path) -> str:
    """By the nearest folder that a program keeps one kind in."""
    names = [each.name.lower() for each in (path, *path.parents)]
    inside = names[: len(path.relative_to(root).parts) + 1]
    return next((KIND_OF_FOLDER[name] for name in inside if name in KIND_OF_FOLDER), "unknown")


def _size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder; of a repository those of its current revision."""
    if path.is_file():
        return path.stat().st_size
    try:
        path = snapshot_of(path)
    except ModelUnusable:
        return 0
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


def _hub_folders(folder: Path) -> Iterator[Path]:
    for place in (folder, folder / "hub"):
        yield from (each for each in place.glob(f"{_HUB_FOLDER}*") if (each / "snapshots").is_dir())


def _exists_exactly(folder: Path, mark: str) -> bool:
    for part in mark.split("/"):
        if not folder.is_dir() or part not in os.listdir(folder):
            return False
        folder /= part
    return True
