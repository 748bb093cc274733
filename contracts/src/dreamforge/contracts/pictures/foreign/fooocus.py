"""Pictures of Fooocus in its own scheme: JSON in `parameters`, or in the user comment. Pure.

Source: modules/meta_parser.py (`FooocusMetadataParser`); in its A1111 scheme they are read as A1111's.
"""

import re
from typing import Any

from dreamforge.contracts.pictures.foreign.imported import (
    LORAS_READ_MAX,
    ImportedLora,
    ImportedModel,
    ImportedRequest,
    Reading,
    json_object,
    number_of,
)
from dreamforge.contracts.pictures.metadata import PictureMetadata

_SIZE = re.compile(r"\D*(\d+)\D+(\d+)\D*", re.ASCII)
_COMBINED = re.compile(r"lora_combined_\d+")
#: What decides no pixel, or says again what stands elsewhere: styles and performance are in the full prompt and steps.
_IGNORED = ("version", "metadata_scheme", "created_by", "styles", "performance", "prompt_expansion")


def read_fooocus(metadata: PictureMetadata) -> ImportedRequest | None:
    """The request of Fooocus; None where there is none."""
    found = json_object(metadata.parameters)
    if found is None or "base_model" not in found:
        return None
    reading = Reading("Fooocus", dict(found))
    for ours in ("prompt", "negative_prompt"):
        raw, full = reading.text(ours), reading.take(f"full_{ours}")
        reading.prompt(ours, ", ".join(map(str, full)) if isinstance(full, list) else raw)
    reading.number("steps", "steps", whole=True)
    reading.number("seed", "seed", whole=True)
    reading.number("guidance_scale", "guidance_scale")
    if size := _SIZE.fullmatch(text := reading.text("resolution")):
        reading.fields |= {"width_px": int(size[1]), "height_px": int(size[2])}
    elif text:
        reading.refuse("resolution", text, "is no size")
    if reading.left.get("refiner_model") == "None":
        reading.ignore(("refiner_model", "refiner_switch"))
    if reading.left.get("vae") == "Default (model)":
        reading.ignore(("vae",))
    loras = _loras(reading)
    layer = reading.number("clip_skip", whole=True)
    reading.ignore(_IGNORED)
    return reading.done(
        sampler=reading.text("sampler"),
        schedule=reading.text("scheduler"),
        clip_layer=layer,
        model=ImportedModel(reading.text("base_model"), reading.text("base_model_hash").lower()),
        loras=loras,
    )


def _loras(reading: Reading) -> tuple[ImportedLora, ...]:
    """Name, weight and hash of each; `lora_combined_1` says the first again."""
    listed: Any = reading.take("loras")  # Any: JSON
    combined = [name for name in reading.left if _COMBINED.fullmatch(name)]
    if not isinstance(listed, list):
        listed = [str(reading.left[name]).split(" : ") for name in combined]
    reading.ignore(combined)
    found = []
    for each in listed[:LORAS_READ_MAX]:
        if isinstance(each, list) and len(each) > 1:
            name, weight, *digest = each
            found.append(ImportedLora(str(name), number_of(weight) or 0.0, str(digest[0]).lower() if digest else ""))
    return tuple(found)
