"""Pictures of SwarmUI: JSON in `parameters`, or in the user comment. Pure.

Source: docs/Image Metadata Format.md of SwarmUI, and src/Text2Image/T2IParamTypes.cs for the names.
"""

from typing import Any

from dreamforge.contracts.pictures.foreign.imported import (
    LORAS_READ_MAX,
    ImportedLora,
    ImportedModel,
    ImportedRequest,
    Reading,
    inside,
    json_object,
    number_of,
)
from dreamforge.contracts.pictures.metadata import PictureMetadata

#: What decides no pixel, or says again what stands elsewhere.
_IGNORED = ("swarm_version", "aspectratio", "sidelength", "images", "automaticvae", "personalnote", "donotsave")


def read_swarmui(metadata: PictureMetadata) -> ImportedRequest | None:
    """The request of SwarmUI; None where there is none."""
    found = json_object(metadata.parameters)
    values = inside(found, "sui_image_params")
    if not isinstance(values, dict):
        return None
    reading = Reading("SwarmUI", dict(values))
    reading.prompt("prompt", reading.text("prompt"))
    reading.prompt("negative_prompt", reading.text("negativeprompt"))
    for theirs, ours in (("steps", "steps"), ("seed", "seed"), ("width", "width_px"), ("height", "height_px")):
        reading.number(theirs, ours, whole=True)
    reading.number("cfgscale", "guidance_scale")
    _second_pass(reading)
    reading.start_image("initimagecreativity", reading.number("initimagecreativity"))
    hashes = _hashes(inside(found, "sui_models"))
    name = reading.text("model")
    loras = _loras(reading, hashes)
    layer = reading.number("clipstopatlayer", whole=True)
    reading.ignore(_IGNORED)
    return reading.done(
        sampler=reading.text("sampler") or reading.text("comfyuisampler"),
        schedule=reading.text("scheduler") or reading.text("comfyuischeduler"),
        clip_layer=None if layer is None else int(abs(layer)),
        model=ImportedModel(name, hashes.get(_plain(name), "")),
        loras=loras,
    )


def _second_pass(reading: Reading) -> None:
    """Its refiner is a second pass where it has no model of its own."""
    factor, strength = number_of(reading.left.get("refinerupscale")), reading.left.get("refinercontrolpercentage")
    if reading.left.get("refinermodel") in (None, "", "(Use Base)") and factor is not None and factor > 1:
        reading.fields["upscale"] = {"factor": factor} | (
            {} if (share := number_of(strength)) is None else {"strength": share}
        )
        reading.ignore(("refinermodel", "refinerupscale", "refinercontrolpercentage"))
        if reading.left.get("refinermethod") == "PostApply":
            reading.ignore(("refinermethod",))


def _hashes(models: Any) -> dict[str, str]:  # Any: JSON
    """Hashes of models by their names: SHA-256 of the tensors alone, which no file has."""
    listed = [each for each in models if isinstance(each, dict)] if isinstance(models, list) else []
    return {_plain(str(each.get("name", ""))): str(each.get("hash") or "").removeprefix("0x") for each in listed}


def _plain(name: str) -> str:
    return name.removesuffix(".safetensors")


def _loras(reading: Reading, hashes: dict[str, str]) -> tuple[ImportedLora, ...]:
    names, weights, texts = (_listed(reading.take(name)) for name in ("loras", "loraweights", "loratencweights"))
    padded, padded_texts = [*weights, *[1.0] * len(names)], [*texts, *[None] * len(names)]
    return tuple(
        ImportedLora(str(name), number_of(weight) or 0.0, hashes.get(_plain(str(name)), ""), number_of(text))
        for name, weight, text in list(zip(names, padded, padded_texts, strict=False))[:LORAS_READ_MAX]
    )


def _listed(value: Any) -> list[Any]:  # Any: JSON
    """A list, also one written with commas."""
    if isinstance(value, str):
        return [each.strip() for each in value.split(",") if each.strip()]
    return value if isinstance(value, list) else [] if value is None else [value]
