"""Pictures of A1111, Forge, SD.Next and whatever else writes the text `parameters`. Pure.

Source of the names: modules/processing.py (`create_infotext`) and modules/infotext_utils.py of A1111 1.10; Forge adds
`Distilled CFG Scale` and `Module 1`.
"""

import json
import re

from dreamforge.contracts.pictures.foreign.imported import (
    LORAS_READ_MAX,
    ImportedLora,
    ImportedModel,
    ImportedRequest,
    Reading,
    Tool,
)
from dreamforge.contracts.pictures.infotext import NEGATIVE
from dreamforge.contracts.pictures.lora_weights import LoraWeights, weights_in
from dreamforge.contracts.pictures.metadata import PictureMetadata
from dreamforge.contracts.pictures.samplers import schedule_steps
from dreamforge.contracts.pictures.upscalers import A1111_METHODS

#: A last line with fewer values belongs to the prompt (modules/infotext_utils.py).
_VALUES_MIN = 3
_NAME = re.compile(r"\s*(\w[\w \-/]*):\s*")
_SIZE = re.compile(r"(\d+)x(\d+)", re.ASCII)
_TAG = re.compile(r"(?P<escape>\\?)<(?P<kind>lora|lyco|hypernet):(?P<inside>[^<>]*)>")
#: What decides no pixel, or says again what stands elsewhere.
_IGNORED = ("Version", "RNG", "Lora hashes", "TI hashes", "Hashes", "User", "Created by", "Size-1", "Size-2")
_DECODER = json.JSONDecoder()


def read_a1111(metadata: PictureMetadata) -> ImportedRequest | None:
    """The request in the text `parameters`; None where there is none."""
    text = metadata.parameters
    return request_of(text) if text and not text.lstrip().startswith("{") else None


def request_of(text: str) -> ImportedRequest | None:
    """The request that a text says; None where it has no line of values."""
    prompt, negative, values = split_infotext(text)
    if not {"Steps", "Sampler", "Seed"} & values.keys():
        return None
    reading = Reading(_tool_of(values.get("Version", "")), dict(values))
    hashes = _lora_hashes(values.get("Lora hashes", ""))
    plain, loras = _without_tags(prompt, hashes, reading)
    reading.prompt("prompt", plain)
    reading.prompt("negative_prompt", negative)
    reading.number("Steps", "steps", whole=True)
    reading.number("CFG scale", "guidance_scale")
    reading.number("Seed", "seed", whole=True)
    _size(reading)
    _second_pass(reading)
    model = ImportedModel(reading.text("Model"), reading.text("Model hash").lower())
    reading.ignore(_IGNORED)
    layer = reading.number("Clip skip", whole=True)
    if reading.tool == "Dream Forge" and layer is not None:  # as `infotext` writes it, whatever the family
        reading.fields["clip_skip"], layer = layer - 1, None
    return reading.done(
        sampler=reading.text("Sampler"),
        schedule=reading.text("Schedule type"),
        clip_layer=layer,
        has_fixed_clip_layer=True,
        has_read_tags=True,
        model=model,
        loras=loras,
    )


def split_infotext(text: str) -> tuple[str, str, dict[str, str]]:
    r"""Prompt, negative prompt, and the values by A1111's names.

    >>> split_infotext('a fox\nNegative prompt: blue\nSteps: 20, Seed: 1, Hashes: {"a": "b, c"}, Size: 64x32')[2]
    {'Steps': '20', 'Seed': '1', 'Hashes': '{"a": "b, c"}', 'Size': '64x32'}
    """
    *lines, last = text.replace("\r\n", "\n").strip().rstrip("\0").split("\n")
    values = _values(last)
    if len(values) < _VALUES_MIN:
        lines, values = [*lines, last], {}
    mark = NEGATIVE.strip()
    at = next((index for index, line in enumerate(lines) if line.startswith(mark)), len(lines))
    negative = "\n".join(lines[at:]).removeprefix(mark).strip()
    return "\n".join(lines[:at]), negative, values


def _values(line: str) -> dict[str, str]:
    """A value is a JSON string, object or list, or everything to the next comma."""
    found: dict[str, str] = {}
    at = 0
    while name := _NAME.match(line, at):
        value, at = _value(line, name.end())
        found[name[1]] = value
        at = line.find(",", at) + 1 or len(line)
    return found


def _value(line: str, at: int) -> tuple[str, int]:
    """The value that begins at an index, and where it ends."""
    if line[at : at + 1] in ('"', "{", "["):
        try:
            value, end = _DECODER.raw_decode(line, at)
        except (ValueError, RecursionError):
            pass
        else:
            return (value if isinstance(value, str) else line[at:end]), end
    end = line.find(",", at)
    end = len(line) if end < 0 else end
    return line[at:end].strip(), end


def _tool_of(version: str) -> Tool:
    """Forge's versions begin with f; others write their name."""
    if version.startswith("Dream Forge"):
        return "Dream Forge"
    if version.startswith("Fooocus"):
        return "Fooocus"
    if version == "ComfyUI":
        return "ComfyUI"
    return "Forge" if re.match(r"f\d|neo", version) else "A1111"


def _size(reading: Reading) -> None:
    text = reading.text("Size")
    if found := _SIZE.fullmatch(text):
        reading.fields |= {"width_px": int(found[1]), "height_px": int(found[2])}
    elif text:
        reading.refuse("Size", text, "is no size")


def _second_pass(reading: Reading) -> None:
    """`Denoising strength` is that of the second pass where there is one, else of the image it started from."""
    strength = reading.number("Denoising strength")
    factor, resize = reading.number("Hires upscale"), _SIZE.fullmatch(reading.text("Hires resize"))
    if factor is None and resize and (width := reading.fields.get("width_px")):
        factor = int(resize[1]) / width
    if not factor:
        reading.start_image("Denoising strength", strength)
        return
    reading.fields["upscale"] = {"factor": factor} | ({} if strength is None else {"strength": strength})
    if (guidance := reading.number("Hires CFG Scale")) is not None:
        reading.fields["upscale"]["guidance_scale"] = guidance
    if strength and (steps := reading.number("Hires steps", whole=True)):
        reading.fields["upscale"]["steps"] = schedule_steps(int(steps), strength)
    upscaler = reading.text("Hires upscaler")
    method = A1111_METHODS.get(upscaler or "Lanczos")
    if method is None:
        reading.refuse("Hires upscaler", upscaler, "the second pass enlarges by Lanczos without it")
    elif method != "lanczos":
        reading.fields["upscale"]["method"] = method


def _lora_hashes(text: str) -> dict[str, str]:
    """Hashes by name: `name: hash, name: hash`."""
    pairs = (part.rpartition(":") for part in text.split(","))
    return {name.strip(): value.strip().lower() for name, _, value in pairs if name}


def _without_tags(prompt: str, hashes: dict[str, str], reading: Reading) -> tuple[str, tuple[ImportedLora, ...]]:
    """A prompt without its tags, and the LoRAs that they name. Escaped ones are text of ours, as they are."""
    found: list[ImportedLora] = []

    def take(tag: re.Match[str]) -> str:
        if tag["escape"]:
            return tag[0]
        name, *rest = (part.strip() for part in tag["inside"].split(":"))
        weights = weights_in(rest)
        if tag["kind"] == "hypernet" or not name or len(found) >= LORAS_READ_MAX:
            reading.refuse("prompt", tag[0])
            return ""
        if weights is None:
            weights = weights_in(rest[:1]) or LoraWeights()
            reading.refuse("prompt", tag[0], f"weight {weights.weight:g} was taken of it, and nothing else")
        found.append(ImportedLora(name, weights.weight, hashes.get(name, ""), weights.text))
        return ""

    text = _TAG.sub(take, prompt)
    return (text.strip() if text != prompt else text), tuple(found)
