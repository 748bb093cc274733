"""A request as it was read from a picture, before anything is known of the models here. Pure, and bounded."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Tool = Literal["Dream Forge", "A1111", "Forge", "ComfyUI", "InvokeAI", "SwarmUI", "Fooocus", "NovelAI"]
#: How many characters of a prompt and of any other value are kept; a prompt of the default limits has 2,000.
PROMPT_CHARS_MAX, VALUE_CHARS_MAX = 100_000, 300
#: How many values without a counterpart are named, and how many LoRAs are read.
UNMAPPED_MAX, LORAS_READ_MAX = 64, 64
NO_COUNTERPART = "has no counterpart here"


@dataclass(frozen=True, slots=True)
class ImportedModel:
    """A checkpoint or LoRA as a picture names it. `hash`: hex digits, as the program writes them."""

    name: str = ""
    hash: str = ""


@dataclass(frozen=True, slots=True)
class ImportedLora:
    """A LoRA with its weight."""

    name: str
    weight: float = 1.0
    hash: str = ""
    text_weight: float | None = None
    """Of its layers in the text encoders, where that is another weight."""


@dataclass(frozen=True, slots=True)
class Unmapped:
    """A value that did not become a field of the request, by the name that its program gives it, and why."""

    name: str
    value: str
    reason: str = NO_COUNTERPART


@dataclass(frozen=True, slots=True)
class ImportedRequest:
    """What a picture says. `fields` are fields of a request, as far as no model here is needed to know them.

    `sampler`, `schedule`: by any name that `samplers.sampler_named` knows. `clip_layer`: the layer of the text encoder
    whose output was used, 1 is the last. `has_fixed_clip_layer`: whether the program ignores that for SDXL.
    `has_literal_brackets`: whether [word] is text in its prompts, and only (word) weighs. `has_read_tags`: whether a
    `<lora:...>` that is left in the prompt is escaped; else it is text of that program, which has no such tags.
    """

    tool: Tool
    fields: dict[str, Any]  # Any: JSON
    sampler: str = ""
    schedule: str = ""
    clip_layer: int | None = None
    has_fixed_clip_layer: bool = False
    has_literal_brackets: bool = False
    has_read_tags: bool = False
    model: ImportedModel = ImportedModel()
    loras: tuple[ImportedLora, ...] = ()
    unmapped: tuple[Unmapped, ...] = ()


@dataclass(slots=True)
class Reading:
    """The values of a picture while they are taken one by one; what is left in the end has no counterpart."""

    tool: Tool
    left: dict[str, Any]  # Any: JSON
    fields: dict[str, Any] = field(default_factory=dict)  # Any: JSON
    unmapped: list[Unmapped] = field(default_factory=list)

    def take(self, name: str) -> Any:  # Any: JSON
        """A value, which is not left any more; None where there is none."""
        return self.left.pop(name, None)

    def text(self, name: str) -> str:
        """A value as text, "" where there is none."""
        value = self.take(name)
        return "" if value is None else as_text(value)

    def prompt(self, ours: str, text: str) -> None:
        """A prompt, if it is not empty."""
        if text := text.replace("\0", "").strip()[:PROMPT_CHARS_MAX]:
            self.fields[ours] = text

    def number(self, name: str, ours: str = "", *, whole: bool = False) -> float | int | None:
        """A number, as the field `ours` if that is given; what is none is named as unmapped."""
        value = self.take(name)
        if value is None or value == "":
            return None
        number = number_of(value, whole=whole)
        if number is None:
            self.refuse(name, value, f"is no {'whole ' if whole else ''}number")
        elif ours:
            self.fields[ours] = number
        return number

    def refuse(self, name: str, value: Any, reason: str = NO_COUNTERPART) -> None:  # Any: JSON
        """Name a value as one that did not become a field."""
        self.unmapped.append(Unmapped(name[:VALUE_CHARS_MAX], as_text(value)[:VALUE_CHARS_MAX], reason))

    def ignore(self, names: Iterable[str]) -> None:
        """Leave out what decides no pixel."""
        for name in names:
            self.left.pop(name, None)

    def start_image(self, name: str, value: Any) -> None:  # Any: JSON
        """A strength without its image: the picture holds none."""
        if value is not None:
            self.refuse(name, value, "the image that it started from is not in the file: upload it as init_image")

    def done(self, **more: Any) -> ImportedRequest:  # Any: fields of the value
        """The request; everything that is left, and neither empty nor off (0), is named as unmapped."""
        for name, value in self.left.items():
            if value not in (None, "", [], {}, False):
                self.refuse(name, value)
        over = len(self.unmapped) - UNMAPPED_MAX
        shown = tuple(self.unmapped[:UNMAPPED_MAX])
        if over > 0:
            shown += (Unmapped("more", str(over), "so many more values have no counterpart here"),)
        return ImportedRequest(self.tool, self.fields, unmapped=shown, **more)


def number_of(value: Any, *, whole: bool = False) -> float | int | None:  # Any: JSON
    """A number, also one written as text; None where it is none, or none that is finite.

    >>> number_of("20", whole=True), number_of("7.0"), number_of(True), number_of("1e999")
    (20, 7.0, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = int(str(value)) if whole else float(value)
    except (ValueError, OverflowError):
        return int(value) if whole and isinstance(value, float) and value.is_integer() else None
    return number if math.isfinite(number) else None


def as_text(value: Any) -> str:  # Any: JSON
    """A value as people read it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def json_object(text: str | None) -> dict[str, Any] | None:  # Any: JSON
    """An object that a text is; None where it is none."""
    if not text or not text.lstrip().startswith("{"):
        return None
    try:
        found = json.loads(text.strip().rstrip("\0"))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def inside(value: Any, name: str) -> Any:  # Any: JSON
    """A member of an object; None where there is no object or no member."""
    return value.get(name) if isinstance(value, Mapping) else None
