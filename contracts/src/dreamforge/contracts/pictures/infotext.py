"""A recipe as the text `parameters` of A1111: what other programs show, read and reuse. Pure.

Three parts: the prompt, the negative prompt, and one line of names and values. A value with a comma, a colon or a line
break is a JSON string, as A1111 quotes it (modules/infotext_utils.py, `quote`). The recipe stays the exact statement: a
prompt whose line begins with "Negative prompt:" cannot be told from that part in this format.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from dreamforge.contracts.lists import in_a_list
from dreamforge.contracts.models.descriptor import SamplerName
from dreamforge.contracts.pictures.samplers import a1111_sampler
from dreamforge.contracts.pictures.upscalers import a1111_upscaler

Recipe = Mapping[str, Any]  # Any: JSON; `gpu_runner.protocol.recipe.Recipe` says what is in it
NEGATIVE = "Negative prompt: "
#: How many digits of a hash A1111 shows: of a model, and of a LoRA or ControlNet.
_MODEL_HASH_CHARS, _ASSET_HASH_CHARS = 10, 12
_BRACKET = re.compile(r"([\\()\[\]])")


def infotext(recipe: Recipe, sampler: SamplerName | None = None) -> str:
    """The text of a recipe as JSON has it; `sampler` is what its request named, since a recipe has only the class.

    LoRAs stand in the prompt as `<lora:id:weight>`, or `<lora:id:text weight:weight>`. Where brackets were not read as
    weights they are escaped, because A1111 would.
    """
    prompt, negative = (_prompt(recipe, name) for name in ("prompt", "negative_prompt"))
    loras = "".join(map(_lora_tag, recipe.get("loras", ())))
    lines = [f"{prompt} {loras}" if loras and prompt else prompt + loras]
    if negative:
        lines.append(NEGATIVE + negative)
    lines.append(", ".join(f"{name}: {_quoted(value)}" for name, value in _values(recipe, sampler)))
    return "\n".join(lines)


def _lora_tag(use: Recipe) -> str:
    text_weight = use.get("text_weight")
    return f"<lora:{use['model_id']}{'' if text_weight is None else f':{text_weight:g}'}:{use['weight']:g}>"


def _prompt(recipe: Recipe, name: str) -> str:
    text = str(recipe.get(name, "")).replace("\0", "").replace("\r\n", "\n")
    literal = recipe.get("prompt_syntax") != "weighted" and any(mark in text for mark in "()[]")
    return _BRACKET.sub(r"\\\1", text) if literal else text


def _values(recipe: Recipe, sampler: SamplerName | None) -> Iterator[tuple[str, object]]:
    used = a1111_sampler(sampler, recipe["sampler"])
    yield "Steps", recipe["steps"]
    yield "Sampler", used.name
    if used.schedule:
        yield "Schedule type", used.schedule
    yield "CFG scale", f"{recipe['guidance_scale']:g}"
    yield "Seed", recipe["seed"]
    yield "Size", f"{recipe['width_px']}x{recipe['height_px']}"
    yield "Model hash", recipe["model_digest"][:_MODEL_HASH_CHARS]
    yield "Model", recipe["model_id"]
    if vae := recipe.get("vae"):
        yield "VAE hash", vae["digest"][:_MODEL_HASH_CHARS]
        yield "VAE", vae["model_id"]
    yield from _of_features(recipe)
    yield "RNG", "CPU"  # the noise is that of torch's generator on the CPU, whatever renders
    yield "Version", "Dream Forge"


def _of_features(recipe: Recipe) -> Iterator[tuple[str, object]]:
    upscale, control, loras = (recipe.get(name) for name in ("upscale", "control", "loras"))
    strength = recipe.get("strength") or (upscale or {}).get("strength")
    if strength is not None:
        yield "Denoising strength", f"{strength:g}"
    if recipe.get("clip_skip"):
        yield "Clip skip", recipe["clip_skip"] + 1  # A1111 counts the last layer as 1
    if upscale:
        yield "Hires resize", f"{upscale['width_px']}x{upscale['height_px']}"
        yield from _of_second_pass(upscale)
    for index, use in enumerate(in_a_list(control)):
        yield f"ControlNet {index}", _control(use)
    if loras:
        yield "Lora hashes", ", ".join(f"{each['model_id']}: {each['digest'][:_ASSET_HASH_CHARS]}" for each in loras)


def _control(use: Mapping[str, Any]) -> str:  # Any: JSON
    """A unit as the extension writes it."""
    model = f"{use['model_id']} [{use['digest'][:8]}]"
    window = f", Guidance Start: {use.get('start', 0):g}, Guidance End: {use.get('end', 1):g}"
    shown = window if use.keys() & {"start", "end"} else ""
    module = (use.get("preprocess") or {}).get("name", "None")
    return f"Module: {module}, Model: {model}, Weight: {use['scale']:g}{shown}"


def _of_second_pass(upscale: Recipe) -> Iterator[tuple[str, object]]:
    """How it enlarges, and what it has otherwise than the first. Steps are those that are made."""
    if upscale.keys() & {"model_id", "method"}:
        yield "Hires upscaler", upscale.get("model_id") or a1111_upscaler(upscale["method"])
    if steps := upscale.get("steps"):
        yield "Hires steps", int(steps * upscale["strength"])
    if name := upscale.get("sampler"):
        used = a1111_sampler(name, "")
        yield "Hires sampler", used.name
        if used.schedule:
            yield "Hires schedule type", used.schedule
    if (guidance := upscale.get("guidance_scale")) is not None:
        yield "Hires CFG Scale", f"{guidance:g}"  # Forge's
    for name in ("prompt", "negative_prompt"):
        if name in upscale:
            yield f"Hires {name.replace('_', ' ')}", upscale[name]


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",:\n") else text
