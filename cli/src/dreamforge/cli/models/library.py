"""The models folder of this machine: which models lie there, and the descriptor files that were added."""

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
    """A path that says nothing of a model."""

    code = "no_descriptor"


class ModelNotDownloaded(Conflict):
    """The model's files are not on this machine."""

    code = "model_not_here"


@dataclass(frozen=True, slots=True)
class ModelLibrary:
    """`folder/MODEL_ID/` holds a model; `folder/.catalog/MODEL_ID.yaml` what was added and is not downloaded yet."""

    folder: Path
    #: Where else descriptor files may lie: those that come with a checkout.
    shipped: Path = Path("models")

    def place(self, model_id: str) -> Path:
        """Where the model's files are; where they would be, if they are not here."""
        for path in sorted(self.folder.glob(f"*/{DESCRIPTOR_NAME}")):
            try:
                if read_descriptor(path).model_id == model_id:
                    return path.parent
            except DescriptorInvalid:
                continue
        return self.folder / model_id

    def here(self, model_id: str) -> Path:
        """The model's folder. Errors: ModelNotDownloaded."""
        place = self.place(model_id)
        if not place.is_dir():
            raise ModelNotDownloaded(
                f"the files of {model_id} are not in {self.folder}: `dreamforge models download {model_id}` brings them"
            )
        return place

    def entry(self, model_id: str) -> tuple[CatalogEntry, Path] | None:
        """What a descriptor file says of a model, and the folder it lies in."""
        for path in (self.folder / CATALOG / f"{model_id}.yaml", self.shipped / f"{model_id}.yaml"):
            if path.is_file():
                return read_entry(path), path.parent
        return None

    def known(self) -> tuple[str, ...]:
        """Ids that descriptor files here describe."""
        found = {path.stem for folder in (self.folder / CATALOG, self.shipped) for path in folder.glob("*.yaml")}
        return tuple(sorted(found))

    def keep(self, entry: CatalogEntry, beside: Path) -> Path:
        """Have a descriptor file known here; a relative folder is written out, since the file moves."""
        if entry.source.kind == "folder":
            location = str((beside / entry.source.location).resolve())
            entry = entry.model_copy(update={"source": entry.source.model_copy(update={"location": location})})
        path = self.folder / CATALOG / f"{entry.model_id}.yaml"
        values = entry.model_dump(mode="json", exclude_defaults=True)
        write(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        return path

    def forget(self, model_id: str) -> None:
        """Drop a descriptor file that was added."""
        (self.folder / CATALOG / f"{model_id}.yaml").unlink(missing_ok=True)

    def drop(self, model_id: str) -> Path | None:
        """Delete the model's folder; which it was. Only ever one below this folder; of a link, the link."""
        place = self.place(model_id)
        if place.is_symlink():
            place.unlink()
        elif place.is_dir():
            (place / DESCRIPTOR_NAME).unlink(missing_ok=True)  # first: half a folder is then no model
            shutil.rmtree(place)
        else:
            return None
        return place

    def holds(self, folder: Path) -> bool:
        """Whether a runner that looks into this folder finds that one."""
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
    """A registered descriptor as an entry, to download it again; None when nobody knows where it came from."""
    if descriptor.source is None:
        return None
    values = {name: getattr(descriptor, name) for name in type(descriptor).model_fields}
    return CatalogEntry.model_validate(values)


def checked(entry: CatalogEntry, source: ModelSource, folder: Path, found: Survey) -> ModelDescriptor:
    """The descriptor of a folder that holds what it should; open files are pinned to what was found.

    Errors: ModelFilesWrong.
    """
    if faults := faults_of(source.files, found.files) if source.files else ():
        raise ModelFilesWrong(str(folder), faults)
    if entry.digest not in (None, found.digest):
        raise ModelFilesWrong(str(folder), (Fault("all files", f"have digest {found.digest}, not {entry.digest}"),))
    return entry.describe(found.digest, source.model_copy(update={"files": found.files}))


def refuse_pickles(folder: Path) -> None:
    """Errors: PickleRefused if a file of the model is one."""
    for path in files_of(folder):
        refuse_pickle(path.relative_to(folder).as_posix())


def write(path: Path, text: str) -> None:
    """A small file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.part")
    fresh.write_text(text)
    fresh.replace(path)
    sync_folder(path.parent)
