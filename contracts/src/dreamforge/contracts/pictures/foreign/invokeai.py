"""Pictures of InvokeAI: JSON in `invokeai_metadata` (3 and later) or `sd-metadata` (2), a command in `Dream` (1). Pure.

Sources: invokeai/app/invocations/metadata.py, `CoreMetadataInvocation`; ldm/invoke/args.py, `dream_prompt_str`.
"""

import re
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
_IGNORED = (
    *("app_version", "generation_mode", "rand_device", "canvas_v2_metadata", "type", "postprocessing", "variations"),
    *("hrf_method", "model_type", "app_id"),
)
_NUMBERS = (("steps", "steps"), ("seed", "seed"), ("width", "width_px"), ("height", "height_px"))
_NEGATIVES = re.compile(r"\[([^\[\]]*)\]")
_WEIGHTED = re.compile(r"(?:\w|\))(?:\++|-+)(?=[\s,.)]|$)|\)\d")
#: The last -s with a number ends the prompt. Values stood beside their letters in the first releases (-s50).
_COMMAND = re.compile(r"(.*)\s(-s\s*\d+(?:\s.*)?)", re.DOTALL)
_SWITCH = re.compile(r"(--\w+|-(?:tm|ft|cf)|-[A-Za-z])(\S*)")
_DREAM_NUMBERS = (("-s", "steps"), ("-S", "seed"), ("-W", "width_px"), ("-H", "height_px"))
_DREAM_IGNORED = ("-n", "-b", "-i", "-F", "-o", "-t", "--fit")
_COMPEL = "words with +, - or (word)1.2 are InvokeAI's syntax, and text here"


def read_invokeai(metadata: PictureMetadata) -> ImportedRequest | None:
    """The request of InvokeAI; None where there is none."""
    if (found := json_object(metadata.texts.get("invokeai_metadata"))) is not None:
        return _request(found)
    legacy = json_object(metadata.texts.get("sd-metadata"))
    if legacy is not None and isinstance(inside(legacy, "image"), dict):
        return _legacy(legacy)
    command = _COMMAND.fullmatch(metadata.texts.get("Dream", "").strip("\0 \n"))
    return _dream(command[1], command[2]) if command else None


def _request(values: dict[str, Any]) -> ImportedRequest:  # Any: JSON
    reading = Reading("InvokeAI", dict(values))
    _prompts(reading, reading.text("positive_prompt"), reading.text("negative_prompt"))
    for theirs, ours in _NUMBERS:
        reading.number(theirs, ours, whole=True)
    reading.number("cfg_scale", "guidance_scale")
    if (guidance := reading.number("guidance")) is not None:  # of FLUX, whose cfg_scale is 1
        reading.fields["guidance_scale"] = guidance
    reading.start_image("strength", reading.number("strength"))
    if reading.take("hrf_enabled"):
        reading.refuse("hrf_strength", reading.take("hrf_strength"), "the size of its second pass is not in the file")
    reading.ignore(("hrf_strength", *_IGNORED))
    skipped = reading.number("clip_skip", whole=True)
    return reading.done(
        sampler=reading.text("scheduler"),
        clip_layer=None if skipped is None else int(skipped) + 1,
        has_fixed_clip_layer=True,
        model=_model(reading.take("model")),
        loras=_loras(reading.take("loras")),
    )


def _legacy(values: dict[str, Any]) -> ImportedRequest:  # Any: JSON
    """`model_hash` is a SHA-256 of the file."""
    reading = Reading("InvokeAI", dict(values["image"]))
    listed = reading.take("prompt")
    parts = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else [{"prompt": listed}]
    _mixed_prompts(reading, " ".join(str(each.get("prompt") or "") for each in parts))
    for theirs, ours in _NUMBERS:
        reading.number(theirs, ours, whole=True)
    reading.number("cfg_scale", "guidance_scale")
    reading.start_image("strength", reading.number("strength"))
    reading.ignore(_IGNORED)
    model = ImportedModel(str(values.get("model_weights") or ""), str(values.get("model_hash") or "").lower())
    return reading.done(sampler=reading.text("sampler"), model=model)


def _dream(prompt: str, switches: str) -> ImportedRequest:
    """A command line: "a fox" -s 50 -S 123 -W 512 -H 512 -C 7.5 -A k_lms."""
    values: dict[str, str | bool] = {}
    name = ""
    for word in switches.split():
        if found := _SWITCH.fullmatch(word):
            name = found[1]
            values[name] = found[2] or True
        elif name:  # some have several values
            values[name] = word if values[name] is True else f"{values[name]} {word}"
    reading = Reading("InvokeAI", dict(values))
    prompt = prompt.strip()
    _mixed_prompts(reading, prompt[1:-1] if prompt[:1] == prompt[-1:] == '"' else prompt)
    for theirs, ours in _DREAM_NUMBERS:
        reading.number(theirs, ours, whole=True)
    reading.number("-C", "guidance_scale")
    for switch in ("-I", "-f"):
        reading.start_image(switch, reading.take(switch))
    reading.ignore(_DREAM_IGNORED)
    return reading.done(sampler=reading.text("-A") or reading.text("-m"))


def _mixed_prompts(reading: Reading, text: str) -> None:
    """Until 2, what is in brackets is the negative prompt."""
    _prompts(reading, " ".join(_NEGATIVES.sub("", text).split()), ", ".join(_NEGATIVES.findall(text)))


def _prompts(reading: Reading, prompt: str, negative: str) -> None:
    reading.prompt("prompt", prompt)
    reading.prompt("negative_prompt", negative)
    if found := _WEIGHTED.search(prompt + "\n" + negative):
        reading.refuse("positive_prompt", found[0], _COMPEL)


def _model(value: Any) -> ImportedModel:  # Any: JSON
    """3 has `model_name`; later ones a hash, usually BLAKE3."""
    name = inside(value, "name") or inside(value, "model_name") or ""
    return ImportedModel(str(name), str(inside(value, "hash") or "").lower())


def _loras(value: Any) -> tuple[ImportedLora, ...]:  # Any: JSON
    found = []
    for each in (value if isinstance(value, list) else [])[:LORAS_READ_MAX]:
        model = _model(inside(each, "model") or inside(each, "lora"))
        weight = number_of(inside(each, "weight"))
        found.append(ImportedLora(model.name, 1.0 if weight is None else weight, model.hash))
    return tuple(found)
