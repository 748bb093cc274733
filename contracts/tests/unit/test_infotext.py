"""A recipe as A1111's text says what A1111 would say of it, whatever its prompt has in it."""

import json
from typing import Any

from dreamforge.contracts.pictures.infotext import infotext

RECIPE: dict[str, Any] = {  # Any: JSON
    "prompt": "a fox",
    "negative_prompt": "",
    "seed": 7,
    "width_px": 64,
    "height_px": 96,
    "steps": 20,
    "guidance_scale": 7.5,
    "sampler": "DDIMScheduler",
    "model_id": "forge-shapes",
    "model_digest": "0123456789abcdef" * 4,
}
QUOTED = json.dumps('a, "b": c')
HOW = (
    "Steps: 20, Sampler: DDIM, CFG scale: 7.5, Seed: 7, Size: 64x96, Model hash: 0123456789, Model: forge-shapes, "
    "RNG: CPU, Version: Dream Forge"
)


def test_a_plain_recipe_is_prompt_and_one_line_of_values() -> None:
    assert infotext(RECIPE) == f"a fox\n{HOW}"


def test_a_prompt_keeps_its_lines_quotes_commas_and_letters() -> None:
    prompt = 'a "fox", füchse 🦊: red\nsecond, line'
    text = infotext(RECIPE | {"prompt": prompt, "negative_prompt": "text,\nframes"})
    assert text == f"{prompt}\nNegative prompt: text,\nframes\n{HOW}"


def test_a_value_with_a_comma_or_a_colon_is_a_json_string() -> None:
    line = infotext(RECIPE | {"model_id": 'a, "b": c'}).splitlines()[-1]
    assert f"Model: {QUOTED}, RNG" in line


def test_brackets_are_escaped_only_where_they_were_no_weights() -> None:
    assert infotext(RECIPE | {"prompt": "a (fox) [x]"}).startswith("a \\(fox\\) \\[x\\]\n")
    assert infotext(RECIPE | {"prompt": "a (fox:1.2)", "prompt_syntax": "weighted"}).startswith("a (fox:1.2)\n")


def test_a_sampler_has_the_name_and_schedule_of_the_request() -> None:
    text = infotext(RECIPE | {"sampler": "DPMSolverMultistepScheduler"}, "dpmpp_2m_karras")
    assert "Sampler: DPM++ 2M, Schedule type: Karras, " in text


def test_several_controlnets_are_named_in_their_order_with_their_steps() -> None:
    uses = [{"model_id": each, "digest": "cd" * 32, "image": "0" * 64, "scale": 1.0} for each in ("canny", "depth")]
    text = infotext(RECIPE | {"control": [uses[0], uses[1] | {"end": 0.5}]})
    assert '"Module: None, Model: canny [cdcdcdcd], Weight: 1", ControlNet 1: ' in text
    assert "Model: depth [cdcdcdcd], Weight: 1, Guidance Start: 0, Guidance End: 0.5" in text


def test_what_a_render_used_beside_its_model_is_named() -> None:
    used = {
        "strength": 0.6,
        "clip_skip": 1,
        "loras": [{"model_id": "ink", "digest": "ab" * 32, "weight": 0.8}],
        "control": {"model_id": "canny", "digest": "cd" * 32, "image": "0" * 64, "scale": 0.5},
        "upscale": {
            "width_px": 128,
            "height_px": 192,
            "strength": 0.35,
            "steps": 20,
            "sampler": "dpmpp_2m_karras",
            "guidance_scale": 3.0,
            "prompt": "two, foxes",
        },
    }
    text = infotext(RECIPE | used)
    assert text.startswith("a fox <lora:ink:0.8>\n")
    for part in (
        "Denoising strength: 0.6, Clip skip: 2, Hires resize: 128x192, Hires steps: 7",
        'Hires sampler: DPM++ 2M, Hires schedule type: Karras, Hires CFG Scale: 3, Hires prompt: "two, foxes"',
        'ControlNet 0: "Module: None, Model: canny [cdcdcdcd], Weight: 0.5"',
        'Lora hashes: "ink: abababababab"',
    ):
        assert part in text
