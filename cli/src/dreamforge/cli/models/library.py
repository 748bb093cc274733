"""The models folder of this machine: downloaded models, and descriptor files that were added."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from dreamforge.cli.models.partial_file import sync_folder
from dreamforge.cli.settings import SHIPPED_MODELS
from dreamforge.contracts.errors import Conflict, InvalidInput
from dreamforge.contracts.models.descriptor import ModelDescriptor, ModelSource
from dreamforge.contracts.models.descriptor_file import (
    CatalogEntry,
    DescriptorInvalid,
    parse_entry,
    problems_of,
    refuse_pickle,
)
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, Fault, ModelFilesWrong, Survey, faults_of, files_of

CATALOG = ".catalog"
SUFFIXES = (".yaml", ".yml", ".json")


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

    def folder_of(self, model_id: str) -> Path:
        """The folder of the model's files; the one for a download, if they are not here."""
        for path in sorted(self.folder.glob(f"*/{DESCRIPTOR_NAME}")):
            try:
                if read_descriptor(path).model_id == model_id:
                    return path.parent
            except DescriptorInvalid:
                continue
        return self.folder / model_id

    def existing_folder_of(self, model_id: str) -> Path:
        """The model's folder. Errors: ModelNotDownloaded."""
        path = self.folder_of(model_id)
        if not path.is_dir():
            raise ModelNotDownloaded(
                f"the files of {model_id} are not in {self.folder}: use `dreamforge models download {model_id}`"
            )
        return path

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
        """Delete the model's folder, or the link to it; its path. Deletes only below this folder."""
        path = self.folder_of(model_id)
        if path.is_symlink():
            path.unlink()
        elif path.is_dir():
            (path / DESCRIPTOR_NAME).unlink(missing_ok=True)  # first: without it an incomplete folder is not a model
            shutil.rmtree(path)
        else:
            return None
        return path

    def contains(self, folder: Path) -> bool:
        """Whether a runner that uses this models folder finds that one."""
        return folder.resolve().parent == self.folder.resolve()


def read_entry(path: Path) -> CatalogEntry:
    """A descriptor file. Errors: DescriptorInvalid, UnknownFamily, PickleRefused, DescriptorNotFound."""
    try:
        content = path.read_text()
        data = json.loads(content) if path.suffix == ".json" else yaml.safe_load(content)
    except (yaml.YAMLError, ValueError) as error:
        raise DescriptorInvalid(str(path), (("file", f"is neither YAML nor JSON: {error}"),)) from None
    except OSError as error:
        raise DescriptorNotFound(f"{path} cannot be read: {error.strerror}") from error
    return parse_entry(data, str(path))


def read_descriptor(path: Path) -> ModelDescriptor:
    """A model folder's own dreamforge.json. Errors: DescriptorInvalid, DescriptorNotFound."""
    try:
        return ModelDescriptor.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DescriptorInvalid(str(path), problems_of(error)) from None
    except OSError as error:
        raise DescriptorNotFound(f"{path} cannot be read: {error.strerror}") from error


def entry_of(descriptor: ModelDescriptor) -> CatalogEntry | None:
    """A registered descriptor as an entry, to download it again; None if its source is unknown."""
    if descriptor.source is None:
        return None
    values = {name: getattr(descriptor, name) for name in type(descriptor).model_fields}
    return CatalogEntry.model_validate(values)


def checked_descriptor(entry: CatalogEntry, source: ModelSource, folder: Path, found: Survey) -> ModelDescriptor:
    """The descriptor of a folder with the expected files; files that were not pinned are pinned to what was found.

    Errors: ModelFilesWrong.
    """
    if faults := faults_of(source.files, found.files) if source.files else ():
        raise ModelFilesWrong(str(folder), faults)
    if entry.digest not in (None, found.digest):
        raise ModelFilesWrong(str(folder), (Fault("all files", f"have digest {found.digest}, not {entry.digest}"),))
    return entry.describe(found.digest, source.model_copy(update={"files": found.files}))


def refuse_pickles(folder: Path) -> None:
    """Errors: PickleRefused if a file of the folder is a pickle."""
    for path in files_of(folder):
        refuse_pickle(path.relative_to(folder).as_posix())


def write_atomically(path: Path, text: str) -> None:
    """Write a small file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.part")
    fresh.write_text(text)
    fresh.replace(path)
    sync_folder(path.parent)
