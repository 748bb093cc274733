"""A picture of another program becomes a request that is valid here; what cannot be in it is named."""

import gzip
import io
import json
from typing import Any

import pytest
from PIL import Image

from dreamforge.contracts.models.descriptor import ModelDescriptor, ModelFile, ModelSource, Preset, VramProfile
from dreamforge.contracts.pictures.foreign.a1111 import request_of
from dreamforge.contracts.pictures.foreign.imported import ImportedLora, ImportedModel, ImportedRequest
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.resolve import resolve
from dreamforge.gateway.http.errors import BadPicture
from dreamforge.gateway.imports.mapping import ImportContext, images_in, map_request
from dreamforge.gateway.imports.matching import match
from dreamforge.gateway.imports.replies import ImportReply
from dreamforge.gateway.submit.body import submission_for
from dreamforge.gateway.submit.read_picture import read_picture

LIMITS = Limits()
VRAM = VramProfile(resident_bytes=1, denoise_bytes_per_latent=1, decode_bytes_per_px=1)
FILE_HASH = "6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa"


def model(model_id: str, **changes: Any) -> ModelDescriptor:
    preset = Preset(name="p", width_px=512, height_px=512, steps=20, guidance_scale=7)
    usual = {"family": "stable-diffusion", "digest": "0" * 64, "side_px_max": 1024, "vram": VRAM, "presets": (preset,)}
    return ModelDescriptor(model_id=model_id, **usual | changes)


FILES = (ModelFile(path="v1-5-pruned-emaonly.safetensors", size_bytes=1, sha256=FILE_HASH),)
SOURCE = ModelSource(kind="single_file", location="https://x.example/v1-5-pruned-emaonly.safetensors", files=FILES)
FIRST, SD15 = model("first", digest="1" * 64), model("sd15", source=SOURCE)
SDXL = model("sdxl", family="stable-diffusion-xl", title="SD XL base 1.0", digest="2" * 64)
INK = model("ink", kind="lora", presets=(), digest="3" * 64)
OTHER = model("other", kind="lora", presets=(), family="flux", digest="4" * 64)
MODELS = {each.model_id: each for each in (FIRST, SD15, SDXL, INK, OTHER)}
SCHEMA = submission_for(LIMITS)


def mapped(
    found: ImportedRequest, models: dict[str, ModelDescriptor] = MODELS, images: frozenset[str] = frozenset()
) -> ImportReply:
    reply = map_request(found, ImportContext(models, LIMITS, SCHEMA, images))
    if models and "prompt" in reply.request:  # what is imported can be submitted
        body = SCHEMA.model_validate_json(json.dumps(reply.request), strict=True)
        resolve(vars(body) | {"seed": 1}, models, LIMITS)
    return reply


def reasons(reply: ImportReply) -> dict[str, str]:
    return {each.name: each.reason for each in reply.unmapped}


def test_a_checkpoint_is_found_by_the_short_hash_of_its_file() -> None:
    text = (
        "a fox <lora:Ink:0.5> <lora:gone:1>\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 512x768, "
        'Model hash: 6ce0161689, Model: renamed, Clip skip: 2, Lora hashes: "Ink: 0c3b2d1e4f5a"'
    )
    found = request_of(text)
    assert found is not None
    reply = mapped(found)
    assert reply.request == {
        "prompt": "a fox",
        "steps": 20,
        "guidance_scale": 7.0,
        "seed": 5,
        "width_px": 512,
        "height_px": 768,
        "model_id": "sd15",
        "sampler": "euler_a",
        "clip_skip": 1,
        "loras": [{"model_id": "ink", "weight": 0.5}],
    }
    assert reply.model is not None
    assert (reply.model.model_id, reply.model.matched_by) == ("sd15", "hash")
    assert [(each.name, each.model_id, each.weight) for each in reply.loras] == [
        ("Ink", "ink", 0.5),
        ("gone", None, 1.0),
    ]
    assert reply.loras[1].note == "no registered lora has this name"
    assert reply.unmapped == ()


def test_a_missing_model_is_named_and_the_default_one_decides_the_rest() -> None:
    reply = mapped(ImportedRequest("A1111", {"prompt": "x"}, model=ImportedModel("unknown-mix", "abcdef0123")))
    assert reply.model is not None
    assert (reply.model.name, reply.model.hash, reply.model.model_id) == ("unknown-mix", "abcdef0123", None)
    assert "model_id" not in reply.request


@pytest.mark.parametrize(
    ("name", "digest", "expected"),
    [
        ("SDXL\\sd_xl_base_1.0.safetensors", "", ("sdxl", "name", "")),
        ("v1-5-pruned-emaonly", "", ("sd15", "name", "")),
        ("v1-5-pruned-emaonly", "ffffffffff", ("sd15", "name", "no file of it has the hash in the picture")),
        ("x", "6ce01616", (None, None, "no registered pipeline has this name or hash")),  # A1111's hash of 2022
        ("x", "blake3:6ce0161689b3", (None, None, "no registered pipeline has this name or hash")),
        ("x", "2" * 64, ("sdxl", "hash", "")),  # our own pictures carry the digest
        ("", "", (None, None, "no registered pipeline has this name")),
    ],
)
def test_a_model_is_matched_by_what_can_be_compared(name: str, digest: str, expected: tuple[str | None, ...]) -> None:
    found = match(name, digest, "pipeline", MODELS.values())
    assert (found.model and found.model.model_id, found.matched_by, found.note) == expected


def test_two_models_of_one_name_are_not_chosen_between() -> None:
    twins = [model("a", title="Mix"), model("b", title="mix")]
    assert match("Mix.safetensors", "", "pipeline", twins).note == "several have this name: a, b"


def test_what_a_submission_refuses_is_left_out_with_its_words() -> None:
    fields = {
        "prompt": "x" * 2_001,
        "seed": 2**60,
        "steps": 0,
        "width_px": 513,
        "height_px": 512,
        "guidance_scale": 1000.0,
        "unknown": 1,
    }
    loras = (ImportedLora("ink", 9.0), ImportedLora("other", 1.0))
    reply = mapped(ImportedRequest("ComfyUI", fields, sampler="dpmpp_3m_sde", schedule="karras", loras=loras))
    assert reply.request == {}
    said = reasons(reply)
    assert set(said) == {"prompt", *fields, "loras", "sampler"}
    assert "multiple of 8" in said["width_px"]
    assert "model first takes: " in said["sampler"]
    assert len([each for each in reply.unmapped if each.name == "loras"]) == 2
    assert all(len(each.value) <= 300 for each in reply.unmapped)


def test_layers_of_the_text_encoder_are_counted_as_the_program_does() -> None:
    def skip(tool: Any, layer: int, name: str, *, fixed: bool = False) -> int | None:
        found = ImportedRequest(
            tool, {"prompt": "x"}, clip_layer=layer, has_fixed_clip_layer=fixed, model=ImportedModel(name)
        )
        return mapped(found).request.get("clip_skip")

    assert [skip("A1111", layer, "sd15", fixed=True) for layer in (1, 2, 3)] == [None, 1, 2]
    assert skip("A1111", 2, "sdxl", fixed=True) is None  # it ignores the setting there
    assert [skip("ComfyUI", layer, "sdxl") for layer in (1, 2, 3)] == [None, None, 1]


def test_square_brackets_of_comfyui_are_text() -> None:
    found = ImportedRequest("ComfyUI", {"prompt": "a [b] \\[c\\]", "negative_prompt": "[d]"}, has_literal_brackets=True)
    assert mapped(found).request["prompt"] == "a \\[b\\] \\[c\\]"


def test_tags_are_read_in_a1111_and_text_elsewhere() -> None:
    assert mapped(ImportedRequest("ComfyUI", {"prompt": "a <lora:x>"})).request["prompt"] == "a \\<lora:x>"
    assert (
        mapped(ImportedRequest("A1111", {"prompt": "\\<lora:x>"}, has_read_tags=True)).request["prompt"] == "\\<lora:x>"
    )


def test_an_embedding_that_is_not_here_is_named_and_its_word_stays() -> None:
    easy = model("easy", kind="embedding", presets=())
    prompts = {"prompt": "a fox, (embedding:gone:1.2)", "negative_prompt": "embedding:Easy.pt, embedding:lost.v2"}
    reply = mapped(ImportedRequest("ComfyUI", fields=prompts), MODELS | {"easy": easy})
    assert reply.request["prompt"] == "a fox, (gone:1.2)"
    assert reply.request["negative_prompt"] == "embedding:Easy.pt, lost.v2"
    assert [each.value for each in reply.unmapped] == ["gone", "lost.v2"]


def test_an_image_that_is_not_here_is_not_named() -> None:
    image = "ef" * 32
    fields = {"prompt": "x", "init_image": image, "strength": 0.5, "resize_mode": "crop"}
    assert images_in(fields) == {image}
    assert mapped(ImportedRequest("Dream Forge", fields)).request == {"prompt": "x"}
    kept = mapped(ImportedRequest("Dream Forge", fields), images=frozenset({image}))
    assert (kept.request["init_image"], kept.unmapped) == (image, ())
    controlled = {"prompt": "x", "control": [{"model_id": "gone", "image": image, "scale": 1.0}]}
    assert "control" in reasons(mapped(ImportedRequest("Dream Forge", controlled), images=frozenset({image})))
    assert images_in({"control": 5, "init_image": ["x"]}) == set()


def test_without_any_model_the_fields_are_still_shown() -> None:
    assert mapped(ImportedRequest("A1111", {"prompt": "x", "steps": 5}), models={}).request == {
        "prompt": "x",
        "steps": 5,
    }


def hidden(text: str, *, packed: bool) -> bytes:
    """A PNG with a text in the lowest bits of its alpha channel, column by column."""
    body = gzip.compress(text.encode()) if packed else text.encode()
    mark = b"stealth_pngcomp" if packed else b"stealth_pnginfo"
    data = mark + (len(body) * 8).to_bytes(4) + body
    bits = [int(bit) for byte in data for bit in f"{byte:08b}"]
    height, width = 64, len(bits) // 64 + 1
    image = Image.new("RGBA", (width, height), (1, 2, 3, 255))
    for at, bit in enumerate(bits):
        image.putpixel((at // height, at % height), (1, 2, 3, 254 | bit))
    return saved(image)


def saved(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def test_a_text_in_the_alpha_channel_is_read() -> None:
    comment = json.dumps({"prompt": "a fox", "uc": "blur", "steps": 28, "seed": 3, "sampler": "k_euler"})
    text = json.dumps({"Software": "NovelAI", "Source": "NovelAI Diffusion V3", "Comment": comment})
    found = read_picture(hidden(text, packed=True), LIMITS)
    assert found is not None
    assert (found.tool, found.fields["prompt"]) == ("NovelAI", "a fox")
    found = read_picture(hidden("a fox\nSteps: 4, Sampler: Euler, Seed: 1", packed=False), LIMITS)
    assert found is not None
    assert (found.tool, found.fields["steps"]) == ("A1111", 4)


def test_an_alpha_channel_that_ends_before_its_text_or_has_none_is_no_request() -> None:
    short = Image.open(io.BytesIO(hidden("x" * 400, packed=False))).crop((0, 0, 8, 64))
    assert read_picture(saved(short), LIMITS) is None
    assert read_picture(saved(Image.new("RGBA", (8, 8), (0, 0, 0, 255))), LIMITS) is None
    assert read_picture(saved(Image.new("RGB", (8, 8))), LIMITS) is None
    with pytest.raises(BadPicture):
        read_picture(b"no picture", LIMITS)
