"""`<lora:name:0.8>` in a prompt: what it adds, what stays text, and what a wrong one is told."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamforge.contracts.errors import InvalidInput
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.request.errors import FieldNeeded, LoraTagUnsupported, NamedTwice, OutOfBounds
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.lora_tags import with_tags_escaped, without_lora_tags
from dreamforge.contracts.request.resolve import inputs_of, resolve
from dreamforge.contracts.request.values import LoraUse

VRAM = VramProfile(resident_bytes=1, denoise_bytes_per_latent=1, decode_bytes_per_px=1)
PRESET = Preset(name="p", width_px=64, height_px=64, steps=4, guidance_scale=2.0)
SD = ModelDescriptor(model_id="sd", family="stable-diffusion", digest="0" * 64, vram=VRAM, presets=(PRESET,))
INK, FILM, OTHER = (
    ModelDescriptor(model_id=name, title=title, family=family, kind="lora", digest="1" * 64, vram=VRAM)
    for name, title, family in (
        ("ink-wash", "Ink Style v1.2", "stable-diffusion"),
        ("film", "", "stable-diffusion"),
        ("flux-lora", "", "flux"),
    )
)
MODELS = {each.model_id: each for each in (SD, INK, FILM, OTHER)}


@pytest.mark.parametrize(
    ("prompt", "text", "loras"),
    [
        ("a fox <lora:ink-wash:0.8>", "a fox", (("ink-wash", 0.8),)),
        ("<lora:film>a fox, <lora:Ink_Wash:-.5> night", "a fox,  night", (("film", 1.0), ("ink-wash", -0.5))),
        ("<lora:ink style V1.2: 2 > fox", "fox", (("ink-wash", 2.0),)),
        (r"say \<lora:film:1> now", "say <lora:film:1> now", ()),
        ("a <lora:film:0.5:0.8> <lora:ink-wash:unet=.7>", "a", (("film", 0.8, 0.5), ("ink-wash", 0.7, 1.0))),
        ("a <lora:film:te=0.5> <lora:ink-wash:0.6:0.6>", "a", (("film", 0.5), ("ink-wash", 0.6))),
        ("a <lora:film without an end", "a <lora:film without an end", ()),
        ("{a|b} (c:1.2) <lyco:film:1> __d__", "{a|b} (c:1.2) <lyco:film:1> __d__", ()),
    ],
)
def test_tags_become_loras_and_the_rest_stays(prompt: str, text: str, loras: tuple[tuple[Any, ...], ...]) -> None:
    names = ("model_id", "weight", "text_weight")
    expected = tuple(LoraUse(**dict(zip(names, each, strict=False))) for each in loras)
    assert without_lora_tags(prompt, MODELS) == (text, expected)


@pytest.mark.parametrize(
    ("prompt", "error", "says"),
    [
        ("<lora:inkwas:1>", InvalidInput, "ink-wash"),
        ("<lora:zzz>", InvalidInput, "3 are registered"),
        ("<lora:film:1:0.5:8>", LoraTagUnsupported, "<lora:NAME:TEXT_WEIGHT:WEIGHT>"),
        ("<lora:film:te=1:te=2>", LoraTagUnsupported, "<lora:NAME:WEIGHT>"),
        ("<lora:film:1:-9>", OutOfBounds, "-9"),
        ("<lora:film:nan>", LoraTagUnsupported, "<lora:NAME:WEIGHT>"),
        ("<lora::1>", LoraTagUnsupported, "<lora:NAME:WEIGHT>"),
        ("<lora:film:99>", OutOfBounds, "4"),
        ("<lora:film><lora:film:0.5>", NamedTwice, "film"),
        ("<lora:film>", FieldNeeded, "empty"),
        ("a <lora:flux-lora:1>", InvalidInput, "flux"),
    ],
)
def test_a_wrong_tag_is_told_what_would_be_right(prompt: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        resolve({"prompt": prompt, "seed": 1}, MODELS, Limits())


def test_tags_come_after_the_field_and_both_may_not_name_the_same() -> None:
    given_ = {"prompt": "a <lora:film:0.5>", "seed": 1, "loras": (LoraUse(model_id="ink-wash"),)}
    request = resolve(given_, MODELS, Limits())
    assert [use.model_id for use in request.loras] == ["ink-wash", "film"]
    assert resolve({**inputs_of(request), "loras": request.loras, "seed": 1}, MODELS, Limits()) == request
    with pytest.raises(NamedTwice, match="film"):
        resolve({**given_, "loras": (LoraUse(model_id="film"),)}, MODELS, Limits())


@given(
    st.text(st.sampled_from("<>:\\ loraz1"), min_size=1) | st.from_regex(r"\\{0,2}<lora:[a-z:]{0,4}>?", fullmatch=True)
)
def test_every_text_can_be_said_literally(text: str) -> None:
    assert without_lora_tags(with_tags_escaped(text), MODELS) == (text, ())
