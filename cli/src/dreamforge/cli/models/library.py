"""The models folder of this machine: installed models, and the descriptor files that were added."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import ValidationError

from dreamforge.cli.models.partial_file import sync_folder
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
    """A path without a readable descriptor."""

    code = "no_descriptor"


class ModelNotDownloaded(Conflict):
    """The model's files are not on this machine."""

    code = "model_not_here"


@dataclass(frozen=True, slots=True)
class ModelLibrary:
    """`folder/MODEL_ID/` holds a model; `folder/.catalog/MODEL_ID.yaml` an added descriptor, not installed yet."""

    folder: Path
    shipped: Path = Path("models")
    """Descriptor files of a checkout."""

    def folder_of(self, model_id: str) -> Path:
        """The folder of the model's files, or where they would be installed."""
        for path in sorted(self.folder.glob(f"*/{DESCRIPTOR_NAME}")):
            try:
                if read_descriptor(path).model_id == model_id:
                    return path.parent
            except DescriptorInvalid:
                continue
        return self.folder / model_id

    def installed_folder(self, model_id: str) -> Path:
        """The model's folder. Errors: ModelNotDownloaded."""
        folder = self.folder_of(model_id)
        if not folder.is_dir():
            raise ModelNotDownloaded(
                f"{model_id} is not installed in {self.folder}: `dreamforge models download {model_id}` fetches it"
            )
        return folder

    def entry(self, model_id: str) -> tuple[CatalogEntry, Path] | None:
        """The descriptor file of a model, parsed, and the folder that contains it."""
        for path in (self.folder / CATALOG / f"{model_id}.yaml", self.shipped / f"{model_id}.yaml"):
            if path.is_file():
                return read_entry(path), path.parent
        return None

    def entry_ids(self) -> tuple[str, ...]:
        """Ids of the descriptor files on this machine."""
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

    def delete_entry(self, model_id: str) -> None:
        """Delete a descriptor file that was added."""
        (self.folder / CATALOG / f"{model_id}.yaml").unlink(missing_ok=True)

    def delete_files(self, model_id: str) -> Path | None:
        """Delete the model's folder, always one inside this folder; only the link if it is one. Its path."""
        folder = self.folder_of(model_id)
        if folder.is_symlink():
            folder.unlink()
        elif folder.is_dir():
            (folder / DESCRIPTOR_NAME).unlink(missing_ok=True)  # first: without it, a partly deleted folder is no model
            shutil.rmtree(folder)
        else:
            return None
        return folder

    def contains(self, folder: Path) -> bool:
        """Whether a runner that reads this library finds `folder`."""
        return folder.resolve().parent == self.folder.resolve()


def read_entry(path: Path) -> CatalogEntry:
    """Parse a descriptor file. Errors: DescriptorInvalid, UnknownFamily, PickleRefused, DescriptorNotFound."""
    try:
        content = path.read_text()
        data = json.loads(content) if path.suffix == ".json" else yaml.safe_load(content)
    except (yaml.YAMLError, ValueError) as error:
        raise DescriptorInvalid(str(path), (("file", f"is neither YAML nor JSON: {error}"),)) from None
    except OSError as error:
        raise DescriptorNotFound(f"{path} cannot be read: {error.strerror}") from error
    return parse_entry(data, str(path))


def read_descriptor(path: Path) -> ModelDescriptor:
    """Parse the dreamforge.json of a model folder. Errors: DescriptorInvalid, DescriptorNotFound."""
    try:
        return ModelDescriptor.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise DescriptorInvalid(str(path), problems_of(error)) from None
    except OSError as error:
        raise DescriptorNotFound(f"{path} cannot be read: {error.strerror}") from error


def entry_of(descriptor: ModelDescriptor) -> CatalogEntry | None:
    """A registered descriptor as an entry, to download the model again; None if it has no source."""
    if descriptor.source is None:
        return None
    values = {name: getattr(descriptor, name) for name in type(descriptor).model_fields}
    return CatalogEntry.model_validate(values)


def checked(entry: CatalogEntry, source: ModelSource, folder: Path, found: Survey) -> ModelDescriptor:
    """The descriptor of a folder after its files were checked; files without checksums are pinned as found.

    Errors: ModelFilesWrong.
    """
    if faults := faults_of(source.files, found.files) if source.files else ():
        raise ModelFilesWrong(str(folder), faults)
    if entry.digest not in (None, found.digest):
        raise ModelFilesWrong(str(folder), (Fault("all files", f"have digest {found.digest}, not {entry.digest}"),))
    return entry.describe(found.digest, source.model_copy(update={"files": found.files}))


def refuse_pickles(folder: Path) -> None:
    """Errors: PickleRefused if a file of the model is a pickle."""
    for path in files_of(folder):
        refuse_pickle(path.relative_to(folder).as_posix())


def write_atomically(path: Path, text: str) -> None:
    """Write a small file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.part")
    fresh.write_text(text)
    fresh.replace(path)
    sync_folder(path.parent)
