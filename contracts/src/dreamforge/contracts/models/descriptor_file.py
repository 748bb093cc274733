"""A descriptor file (`models/*.yaml`) as a value: what is known of a model before its files are there. Pure.

It says the same as a `ModelDescriptor`, but may leave the digest and the files open: the download of such a model
pins the files that it got, and registers them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field, ValidationError

from dreamforge.contracts.errors import InvalidInput
from dreamforge.contracts.models.descriptor import (
    FAMILY_PARAMETERS,
    Kind,
    ModelDescriptor,
    ModelFile,
    ModelSource,
    Parameters,
    Preset,
    Sha256,
    Tier,
    Token,
    Value,
    VramProfile,
)
from dreamforge.contracts.models.family_defaults import addition_vram_of
from dreamforge.contracts.models.model_files import refuse_files
from dreamforge.contracts.validation import describe_validation_error, dotted

#: Every family that a runner can render. `diffusers` is any folder that `DiffusionPipeline` reads by itself.
FAMILIES = (*FAMILY_PARAMETERS, "diffusers", "esrgan", "synthetic")


@dataclass(eq=False)
class DescriptorInvalid(InvalidInput):
    """A descriptor file that cannot be right; `problems` are (field, what is wrong with it)."""

    code = "descriptor_invalid"
    file: str
    problems: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return "\n".join(f"{self.file}: {field}: {what}" for field, what in self.problems)


@dataclass(eq=False)
class UnknownFamily(InvalidInput):
    """No runner can render this kind of model."""

    code = "unknown_family"
    file: str
    family: str

    def __str__(self) -> str:
        return (
            f"{self.file}: family: {self.family!r} is unknown; known are {', '.join(FAMILIES)}"
            " (`diffusers` is for any folder that DiffusionPipeline can read)"
        )


class CatalogEntry(Value):
    """A model as its descriptor file describes it; field for field a `ModelDescriptor`, but for what may be open."""

    model_id: Token
    title: str = ""
    family: Token
    licence: str = Field(min_length=1)
    licence_url: str = ""
    digest: Sha256 | None = Field(default=None, description="of the whole folder; None: not known before a download")
    size_multiple_px: int = Field(default=8, ge=1)
    side_px_min: int = Field(default=32, ge=8)
    side_px_max: int = Field(default=1024, ge=8)
    vram: VramProfile | None = Field(default=None, description="None: estimated from the weights once they are here")
    presets: tuple[Preset, ...] = ()
    kind: Kind = "pipeline"
    parameters: Parameters | None = None
    tiers: tuple[Tier, ...] = ()
    scale: int | None = Field(default=None, ge=1, description="of an upscaler: how many times it enlarges a side")
    source: ModelSource
    variant: str = Field(default="", max_length=32, description="weights to prefer in a repository, such as fp16")

    @property
    def pinned(self) -> bool:
        """Whether it says of every file what it must be."""
        return bool(self.source.files)

    def describe(
        self, digest: str, source: ModelSource | None = None, vram: VramProfile | None = None
    ) -> ModelDescriptor:
        """What the registry is told once the folder's digest is known; the others are what was found, where open.

        Errors: ValidationError, also where the memory is open and `vram` does not say it.
        """
        values = {name: getattr(self, name) for name in ModelDescriptor.model_fields if name in type(self).model_fields}
        found = {"digest": digest, "source": source or self.source, "vram": self.vram or vram}
        return ModelDescriptor.model_validate(values | found)


def parse_entry(data: object, file: str) -> CatalogEntry:
    """A descriptor file's content, checked. `file` is its name, for the errors.

    Errors: DescriptorInvalid with every field that is wrong, UnknownFamily, PickleRefused, ModelFileRefused.
    """
    if not isinstance(data, Mapping):
        raise DescriptorInvalid(file, (("file", "must be a mapping of fields, such as `model_id: my-model`"),))
    try:
        entry = CatalogEntry.model_validate(dict(data))
        # What only the whole can tell, such as a pipeline without presets.
        entry.describe("0" * 64, vram=addition_vram_of(0))
    except ValidationError as error:
        raise DescriptorInvalid(file, problems_of(error)) from None
    check_family(entry.family, file)
    refuse_files(each.path for each in entry.source.files)
    _check_once(entry.source.files, file)
    _check_configuration(entry, file)
    _check_components(entry, file)
    _check_side(entry, file)
    return entry


def check_family(family: str, file: str) -> None:
    """Errors: UnknownFamily."""
    if family not in FAMILIES:
        raise UnknownFamily(file, family)


def problems_of(error: ValidationError) -> tuple[tuple[str, str], ...]:
    """(field, what is wrong and what would be right), one for each."""
    known = [f"those of {CatalogEntry.__name__} in docs/models.md"]
    found = describe_validation_error(error, known=known, show_values=True)
    return tuple((dotted(where) or "file", message) for where, message in found)


def _check_once(files: tuple[ModelFile, ...], file: str) -> None:
    paths = [each.path for each in files]
    if twice := sorted({path for path in paths if paths.count(path) > 1}):
        raise DescriptorInvalid(file, tuple(("source.files", f"{path} is listed more than once") for path in twice))


def _check_configuration(entry: CatalogEntry, file: str) -> None:
    if entry.kind == "pipeline" and entry.source.kind == "single_file" and not entry.source.configuration:
        right = "one file holds weights only; name the repository whose configurations go with it, as owner/name"
        raise DescriptorInvalid(file, (("source.configuration", f"is missing: {right}"),))


def _check_components(entry: CatalogEntry, file: str) -> None:
    if entry.source.components and (entry.kind != "pipeline" or entry.source.kind == "single_file"):
        right = "only the pipeline of a repository or folder has parts from elsewhere; remove them"
        raise DescriptorInvalid(file, (("source.components", right),))


def _check_side(entry: CatalogEntry, file: str) -> None:
    low, high = entry.side_px_min, entry.side_px_max
    wrong = [("side_px_max", f"is {high}, but must be at least side_px_min, {low}")] if high < low else []
    for number, preset in enumerate(entry.presets):
        for name, side in (("width_px", preset.width_px), ("height_px", preset.height_px)):
            if not low <= side <= high or side % entry.size_multiple_px:
                right = f"a multiple of {entry.size_multiple_px} between {low} and {high}"
                wrong.append((f"presets.{number}.{name}", f"is {side}, but must be {right}"))
    wrong += _wrong_cards(entry)
    if wrong:
        raise DescriptorInvalid(file, tuple(wrong))


def _wrong_cards(entry: CatalogEntry) -> list[tuple[str, str]]:
    """Presets are for cards all or none, the smallest card first: the first is the default where no card is known."""
    cards = [each.card_gb for each in entry.presets]
    if cards == [None] * len(cards):
        return []
    if None in cards:
        return [(f"presets.{cards.index(None)}.card_gb", "is missing: other presets are for cards of their sizes")]
    named = [each for each in cards if each is not None]
    if named != sorted(set(named)):
        return [
            ("presets", f"are for cards of {', '.join(map(str, named))} GB, but must be in rising order, each once")
        ]
    return []
