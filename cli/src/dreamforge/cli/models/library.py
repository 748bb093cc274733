"""The models folder of this machine: downloaded models, and descriptor files that were added."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from dreamforge.cli.models.download import LOCK_NAME
from dreamforge.cli.models.errors import FolderTaken
from dreamforge.cli.models.partial_file import sync_folder
from dreamforge.cli.settings import SHIPPED_MODELS
from dreamforge.contracts.errors import Conflict, InvalidInput
from dreamforge.contracts.models.descriptor import ModelDescriptor, ModelSource
from dreamforge.contracts.models.descriptor_file import (
    CatalogEntry,
    DescriptorInvalid,
    parse_entry,
    problems_of,
)
from dreamforge.runtime.storage.descriptor_fit import check_modes, fitted, vram_of_files
from dreamforge.runtime.storage.model_facts import ModelFacts
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, Fault, ModelFilesWrong, Survey, faults_of, files_of
from dreamforge.runtime.storage.model_inspection import inspect_model

CATALOG = ".catalog"
#: Says in a folder without a dreamforge.json yet which model is being downloaded into it.
CLAIM_NAME = ".downloading"


class DescriptorNotFound(InvalidInput):
    """A path without a model descriptor."""

    code = "no_descriptor"


class ModelNotDownloaded(Conflict):
    """The model's files are not on this machine."""

    code = "model_not_here"


@dataclass(frozen=True, slots=True)
class ModelLibrary:
    """`folder/MODEL_ID/` has a model; `folder/.catalog/MODEL_ID.yaml` a descriptor file that was added."""

    folder: Path
    #: Another folder with descriptor files: those of a checkout.
    shipped: Path = SHIPPED_MODELS

    def find_folder(self, model_id: str) -> Path | None:
        """The folder whose own dreamforge.json names this model; None if there is none."""
        return next(iter(self._folders_of(model_id)), None)

    def _folders_of(self, model_id: str) -> list[Path]:
        folders = sorted(path.parent for path in self.folder.glob(f"*/{DESCRIPTOR_NAME}"))
        return [folder for folder in folders if _owner_of(folder) == model_id]

    def existing_folder_of(self, model_id: str) -> Path:
        """The model's folder. Errors: ModelNotDownloaded."""
        if (found := self.find_folder(model_id)) is None:
            raise ModelNotDownloaded(
                f"the files of {model_id} are not in {self.folder}: use `dreamforge models download {model_id}`"
            )
        return found

    def claim(self, model_id: str) -> Path:
        """A folder to write this model's files into: its own, or a new one that is marked as its own.

        Errors: FolderTaken if the folder of that name has files that are not proved to be this model's.
        """
        if (found := self.find_folder(model_id)) is not None:
            return found
        folder = self.folder / model_id
        if not self._is_claimed(folder, model_id):
            self.refuse_other_owner(folder, model_id)
            if folder.exists() and (not folder.is_dir() or files_of(folder)):
                reason = "it has files that no `models download` put there: move them, or add them with `models add`"
                raise FolderTaken(str(folder), model_id, reason)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / CLAIM_NAME).write_text(model_id, encoding="utf-8")
        return folder

    def refuse_other_owner(self, folder: Path, model_id: str) -> None:
        """Errors: FolderTaken if the folder is that of another model, or the model has another folder here."""
        if (folder / DESCRIPTOR_NAME).is_file() and (owner := _owner_of(folder)) != model_id:
            unread = f"its {DESCRIPTOR_NAME} cannot be read, so it may be that of another model: repair or delete it"
            reason = f"its {DESCRIPTOR_NAME} says that it is the folder of {owner}" if owner else unread
            raise FolderTaken(str(folder), model_id, reason)
        others = self._folders_of(model_id) if self.contains(folder) else []
        for other in others:
            if other.resolve() != folder.resolve():
                raise FolderTaken(str(folder), model_id, f"{other} is its folder; remove that model first")

    def _is_claimed(self, folder: Path, model_id: str) -> bool:
        """Whether an unfinished download of this model made the folder."""
        if (folder / DESCRIPTOR_NAME).exists():
            return False
        mark = folder / CLAIM_NAME
        # Older downloads left only their lock.
        return mark.read_text(encoding="utf-8") == model_id if mark.is_file() else (folder / LOCK_NAME).is_file()

    def find_entry(self, model_id: str) -> tuple[CatalogEntry, Path] | None:
        """The descriptor file of a model as an entry, and the folder of that file."""
        for path in (self.folder / CATALOG / f"{model_id}.yaml", self.shipped / f"{model_id}.yaml"):
            if path.is_file():
                return read_entry(path), path.parent
        return None

    def known_ids(self) -> tuple[str, ...]:
        """Ids of the models that have a descriptor file here."""
        found = {path.stem for folder in (self.folder / CATALOG, self.shipped) for path in folder.glob("*.yaml")}
        return tuple(sorted(found))

    def add_entry(self, entry: CatalogEntry, base_folder: Path) -> Path:
        """Store a descriptor file; a folder relative to `base_folder` becomes absolute, because the file moves."""
        if entry.source.kind == "folder":
            location = str((base_folder / entry.source.location).resolve())
            entry = entry.model_copy(update={"source": entry.source.model_copy(update={"location": location})})
        path = self.folder / CATALOG / f"{entry.model_id}.yaml"
        values = entry.model_dump(mode="json", exclude_defaults=True)
        write_atomically(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        return path

    def remove_entry(self, model_id: str) -> None:
        """Delete a descriptor file that was added."""
        (self.folder / CATALOG / f"{model_id}.yaml").unlink(missing_ok=True)

    def delete_folder(self, model_id: str) -> Path | None:
        """Delete the model's folder, or the link to it; its path. None if no folder is proved to be this model's."""
        path = self.find_folder(model_id)
        if path is None and self._is_claimed(self.folder / model_id, model_id):
            path = self.folder / model_id
        if path is None:
            return None
        if path.is_symlink():
            path.unlink()
        else:
            (path / DESCRIPTOR_NAME).unlink(missing_ok=True)  # first: without it an incomplete folder is not a model
            shutil.rmtree(path)
        return path

    def contains(self, folder: Path) -> bool:
        """Whether a runner that uses this models folder finds that one, or the link to it."""
        return self.folder.resolve() in (folder.resolve().parent, folder.absolute().parent.resolve())


def _owner_of(folder: Path) -> str | None:
    """The model that the folder's dreamforge.json names; None if that cannot be read."""
    try:
        return read_descriptor(folder / DESCRIPTOR_NAME).model_id
    except (DescriptorInvalid, DescriptorNotFound):
        return None


def read_entry(path: Path) -> CatalogEntry:
    """A descriptor file. Errors: DescriptorInvalid, UnknownFamily, PickleRefused, DescriptorNotFound."""
    try:
        content = _text_of(path)
        data = json.loads(content) if path.suffix == ".json" else yaml.safe_load(content)
    except (yaml.YAMLError, ValueError) as error:
        raise DescriptorInvalid(str(path), (("file", f"is neither YAML nor JSON: {error}"),)) from None
    except OSError as error:
        raise DescriptorNotFound(f"{path} cannot be read: {error.strerror}") from error
    return parse_entry(data, str(path))


def _text_of(path: Path) -> str:
    """A text file as editors write it, with a byte order mark or without. Errors: DescriptorInvalid, OSError."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"is not UTF-8: byte {error.object[error.start]:#04x} at {error.start}; save it as UTF-8"
        raise DescriptorInvalid(str(path), (("file", what),)) from None


def read_descriptor(path: Path) -> ModelDescriptor:
    """A model folder's own dreamforge.json. Errors: DescriptorInvalid, DescriptorNotFound."""
    try:
        return ModelDescriptor.model_validate_json(_text_of(path))
    except ValidationError as error:
        raise DescriptorInvalid(str(path), problems_of(error)) from None
    except OSError as error:
        raise DescriptorNotFound(f"{path} cannot be read: {error.strerror}") from error


def entry_of(descriptor: ModelDescriptor) -> CatalogEntry | None:
    """A registered descriptor as an entry, to download it again; None if its source is unknown."""
    if descriptor.source is None:
        return None
    fields = type(descriptor).model_fields.keys() & CatalogEntry.model_fields.keys()
    values = {name: getattr(descriptor, name) for name in fields}
    return CatalogEntry.model_validate(values)


def checked_descriptor(entry: CatalogEntry, source: ModelSource, folder: Path, found: Survey) -> ModelDescriptor:
    """The descriptor of a folder with the expected files; files that were not pinned are pinned to what was found.

    Errors: ModelFilesWrong; ModelUnusable where no runner could render with them, or not as described.
    """
    if faults := faults_of(source.files, found.files) if source.files else ():
        raise ModelFilesWrong(str(folder), faults)
    if entry.digest not in (None, found.digest):
        raise ModelFilesWrong(str(folder), (Fault("all files", f"have digest {found.digest}, not {entry.digest}"),))
    facts = inspect_model(folder)
    pinned = source.model_copy(update={"files": found.files})
    descriptor = entry.describe(found.digest, pinned, vram_of_files(facts, entry.family))
    return fitted_as_described(descriptor, facts)


def fitted_as_described(descriptor: ModelDescriptor, facts: ModelFacts) -> ModelDescriptor:
    """The descriptor with what its files can do. Errors: ModelUnusable where it promises more."""
    check_modes(descriptor, facts)
    return fitted(descriptor, facts)


def write_atomically(path: Path, text: str) -> None:
    """Write a small file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.part")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)
    sync_folder(path.parent)
