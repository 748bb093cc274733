"""Where the files of a model come from, and what they must be. Pure."""

from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from dreamforge.contracts.models.value import Value, is_blank, is_empty, is_zero

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def _relative(path: str) -> str:
    """A file's place in a model folder: never outside of it, on no system."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or "\\" in path or ":" in path or {"..", "."} & set(path.split("/")):
        raise ValueError("must be a relative path without '.', '..', ':' or '\\'")
    return path


class ModelFile(Value):
    """One file of a model, pinned by content."""

    path: Annotated[str, StringConstraints(min_length=1, max_length=512), AfterValidator(_relative)]
    size_bytes: int = Field(ge=0)
    sha256: Sha256


class ModelComponent(Value):
    """A part of a pipeline that another repository, or another folder, has: laid into the model's folder by `name`.

    It takes the place of the part that the model's own files have under this name, if they have one.
    """

    name: str = Field(pattern=r"^[a-z0-9_]{1,64}$", description="as in model_index.json, such as text_encoder_4")
    library: Literal["diffusers", "transformers"] = Field(description="of the class")
    class_name: str = Field(pattern=r"^[A-Za-z0-9_]{1,128}$", description="as model_index.json would name it")
    location: str = Field(min_length=1, max_length=1024, description="a repository `owner/name`, or a folder")
    subfolder: Annotated[str, StringConstraints(max_length=512)] = Field(
        default="", exclude_if=is_blank, description="where in it the files lie; empty: at its top"
    )
    revision: str = Field(default="", max_length=128, description="of a repository: a commit, never a branch")
    licence: str = Field(min_length=1)
    licence_url: str = Field(default="", exclude_if=is_blank)
    gated: bool = Field(default=False, exclude_if=is_zero, description="whether its licence must be accepted there")

    @field_validator("subfolder")
    @classmethod
    def _inside(cls, subfolder: str) -> str:
        return _relative(subfolder) if subfolder else ""


class ModelSource(Value):
    """Where a model's files come from, and what they must be."""

    kind: Literal["folder", "hub", "single_file"]
    location: str = Field(min_length=1, max_length=1024, description="a folder, a repository `owner/name`, or an URL")
    revision: str = Field(default="", max_length=128, description="of a repository: a commit, never a branch")
    configuration: str = Field(
        default="",
        max_length=256,
        exclude_if=is_blank,
        description="for a single file of weights: the repository whose configurations and vocabularies go with it",
    )
    components: tuple[ModelComponent, ...] = Field(
        default=(), exclude_if=is_empty, description="parts of the pipeline that come from elsewhere"
    )
    files: tuple[ModelFile, ...] = ()

    @model_validator(mode="after")
    def _each_component_once(self) -> Self:
        names = [each.name for each in self.components]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"components: {', '.join(twice)} is named more than once")
        return self

    @property
    def size_bytes(self) -> int:
        """Bytes on disk."""
        return sum(file.size_bytes for file in self.files)


def licences_of(licence: str, source: ModelSource | None) -> tuple[str, ...]:
    """The licence of a model, then those of its parts that come from elsewhere, each once."""
    components = source.components if source is not None else ()
    return tuple(dict.fromkeys((licence, *(each.licence for each in components))))
