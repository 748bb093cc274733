"""Words of the prompts that name registered embeddings are recorded with the ids that they stand for."""

import pytest

from dreamforge.contracts.models.descriptor import Kind, ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.request.batch_key import batch_key
from dreamforge.contracts.request.embedding_words import with_words_replaced
from dreamforge.contracts.request.errors import (
    AssetMismatch,
    FieldNeeded,
    NamedTwice,
    NotAllowed,
    OutOfBounds,
    UnknownAsset,
)
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.request.resolve import inputs_of, resolve
from dreamforge.contracts.request.values import EmbeddingUse, UpscaleInput

VRAM = VramProfile(resident_bytes=1, denoise_bytes_per_latent=1, decode_bytes_per_px=1)
PRESET = Preset(name="p", width_px=64, height_px=64, steps=4, guidance_scale=2.0)


def model(model_id: str, family: str, kind: Kind = "embedding", title: str = "") -> ModelDescriptor:
    presets = (PRESET,) if kind == "pipeline" else ()
    return ModelDescriptor(
        model_id=model_id, family=family, kind=kind, title=title, digest="0" * 64, vram=VRAM, presets=presets
    )


MODELS = {
    each.model_id: each
    for each in (
        model("sd", "stable-diffusion", "pipeline"),
        model("flux", "flux", "pipeline"),
        model("bad-hands", "stable-diffusion"),
        model("Easy_v2", "stable-diffusion", title="easy negative"),
        model("xl", "stable-diffusion-xl"),
        *(model(f"many{number}", "stable-diffusion") for number in range(17)),
    )
}


def resolved(prompt: str, model_id: str = "sd", **given: object) -> RenderRequest:
    return resolve({"prompt": prompt, "seed": 1, "model_id": model_id} | given, MODELS, Limits())


def words(request: RenderRequest) -> list[tuple[str, str]]:
    return [(use.model_id, use.word) for use in request.embeddings]


def test_words_that_are_names_are_recorded_with_what_they_stand_for() -> None:
    request = resolved("a fox, (Bad-Hands:1.2)", negative_prompt="embedding:easy_v2.safetensors, xl, bad-hands-2")
    assert words(request) == [("bad-hands", "bad-hands"), ("Easy_v2", "Easy_v2")]
    assert request.prompt == "a fox, (Bad-Hands:1.2)", "the prompt stays as it was written"
    assert set(request.assets) == {"bad-hands", "Easy_v2"}
    assert words(resolved("an EASY NEGATIVE fox")) == [("Easy_v2", "easy negative")]
    second = UpscaleInput(factor=2, negative_prompt="bad-hands")
    assert words(resolved("a", upscale=second)) == [("bad-hands", "bad-hands")]
    assert not resolved("bad-hands and embedding:any", "flux").embeddings, "a family that has none reads it as text"
    assert not resolved("bad-handshake, xl").embeddings
    assert words(resolved("EASY_V2 many1")) == [("Easy_v2", "Easy_v2"), ("many1", "many1")]
    assert with_words_replaced("ırıs IRIS iris", ["Iris"], lambda word: word) == "Iris Iris Iris"


def test_a_request_can_say_which_word_stands_for_which_embedding() -> None:
    own = (EmbeddingUse(model_id="bad-hands", word="hands"),)
    request = resolved("hands, Easy_v2", embeddings=own)
    assert words(request) == [("bad-hands", "hands")]
    assert inputs_of(request)["embeddings"] == [{"model_id": "bad-hands", "word": "hands"}]
    assert words(resolved("bad-hands", embeddings=(EmbeddingUse(model_id="bad-hands"),))) == [
        ("bad-hands", "bad-hands")
    ]


def test_what_cannot_be_meant_is_refused_with_its_field() -> None:
    with pytest.raises(UnknownAsset, match=r"negative_prompt is 'easy', which is no registered embedding; .*Easy_v2"):
        resolved("a", negative_prompt="embedding:easy")
    with pytest.raises(AssetMismatch):
        resolved("embedding:xl")
    with pytest.raises(AssetMismatch):
        resolved("xl", embeddings=(EmbeddingUse(model_id="xl"),))
    with pytest.raises(FieldNeeded, match="embeddings/0 stands for 'bad-hands', and no prompt has that word"):
        resolved("a fox", embeddings=(EmbeddingUse(model_id="bad-hands"),))
    twice = (EmbeddingUse(model_id="bad-hands", word="a"), EmbeddingUse(model_id="Easy_v2", word="A"))
    with pytest.raises(NamedTwice):
        resolved("a fox", embeddings=twice)
    with pytest.raises(OutOfBounds, match="embeddings"):
        resolved(" ".join(name for name in MODELS if name.startswith("many")))
    with pytest.raises(NotAllowed):
        resolved("hands", "flux", embeddings=(EmbeddingUse(model_id="bad-hands", word="hands"),))


def test_images_with_other_embeddings_are_not_in_one_run() -> None:
    assert batch_key(resolved("a fox")) != batch_key(resolved("a bad-hands fox"))
    assert batch_key(resolved("a cat bad-hands")) == batch_key(resolved("a bad-hands fox"))
    assert "embeddings" not in resolved("a fox").model_dump(mode="json")
