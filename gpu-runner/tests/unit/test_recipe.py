"""A recipe names everything that a picture came from, and nothing that it did not use."""

from typing import Any

import pytest
from runner_testkit.tasks import LocalControl, LocalEmbedding, LocalImagePrompt, LocalLora, render_task

from dreamforge.contracts.models.descriptor import Tier, VramProfile
from dreamforge.contracts.request.values import ControlUse, EmbeddingUse, ImagePromptUse, LoraUse, Upscale
from dreamforge.gpu_runner.protocol.recipe import Engine, Recipe, recipe_for
from dreamforge.gpu_runner.protocol.render_task import InputImage, ModelFiles

A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)
ENGINE = Engine(renderer="diffusers", device="cpu", device_name="AVX2", dtype="float32", threads=1, versions={})
TASK: dict[str, Any] = {"model_id": "m", "model_path": "/m", "model_digest": A, "prompt": "a fox"}


def recipe(**changes: Any) -> Recipe:
    """The recipe of a task."""
    return recipe_for(render_task(**TASK | changes), 1, ENGINE, pipeline="P", sampler="S")


def tier(**settings: Any) -> Tier:
    """A tier of these settings."""
    vram = VramProfile(resident_bytes=1, denoise_bytes_per_latent=1, decode_bytes_per_px=1)
    return Tier(name="lean", vram=vram, **settings)


def test_a_picture_from_a_prompt_has_the_recipe_that_it_always_had() -> None:
    assert list(recipe().model_dump()) == [
        "format", "renderer", "prompt", "negative_prompt", "seed", "width_px", "height_px", "steps", "guidance_scale",
        "sampler", "model_id", "model_digest", "pipeline", "device", "device_name", "dtype", "threads", "versions",
    ]  # fmt: skip


def test_all_that_was_used_is_named_by_its_content() -> None:
    picture, mask = InputImage(path="/p", sha256=B), InputImage(path="/q", sha256=C)
    whole = recipe(
        init_image=picture,
        mask_image=mask,
        loras=(LocalLora(LoraUse(model_id="l", weight=0.5), ModelFiles(path="/l", digest=D)),),
        control=LocalControl(ControlUse(model_id="c", image=B, scale=0.75), ModelFiles(path="/c", digest=D), picture),
        upscale=Upscale(width_px=128, height_px=128, strength=0.3, factor=2),
    ).model_dump()
    assert (whole["init_image"], whole["mask_image"], whole["strength"]) == (B, C, 1.0)
    assert whole["loras"] == ({"model_id": "l", "digest": D, "weight": 0.5},)
    assert whole["control"] == {"model_id": "c", "digest": D, "image": B, "scale": 0.75}
    uses = (ControlUse(model_id="c", image=B, scale=0.75), ControlUse(model_id="c", image=B, start=0.5))
    files = ModelFiles(path="/c", digest=D)
    several = recipe(control=[LocalControl(use, files, picture) for use in uses])
    assert several.model_dump()["control"] == (whole["control"], whole["control"] | {"scale": 1.0, "start": 0.5})
    alone = recipe(control=LocalControl(uses[0], files, picture))
    for written in (alone, several):
        assert Recipe.model_validate_json(written.model_dump_json()) == written, "as it comes from the child"
    assert whole["upscale"] == {"width_px": 128, "height_px": 128, "strength": 0.3}
    own = Upscale(width_px=128, height_px=128, strength=0.3, factor=2, seed=7, prompt="b")
    second = recipe_for(render_task(seed=3, upscale=own), 5, ENGINE, pipeline="P", sampler="S").upscale
    assert second is not None
    assert (second.seed, second.prompt) == (9, "b"), "that of the third image"
    assert "/" not in str([whole[name] for name in ("init_image", "mask_image", "loras", "control")])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, None),
        ({"dtype": "bfloat16"}, None),
        ({"offload": "model"}, None),
        ({"vae_tiling": True}, {"name": "lean", "offload": "none", "vae_tiling": True}),
    ],
)
def test_a_tier_shows_where_it_can_change_pixels(settings: Any, told: Any) -> None:
    assert recipe(tier=tier(**settings)).model_dump().get("tier") == told


def test_what_an_image_was_computed_in_is_told_with_the_settings_of_the_quantiser() -> None:
    task = render_task(**TASK, quantisation="int8")
    made = recipe_for(task, 1, ENGINE, pipeline="P", sampler="S", quantiser="torchao: int8").model_dump()
    held = {"name": "full", "offload": "none", "vae_tiling": False, "quantised": "int8", "quantiser": "torchao: int8"}
    assert (made["quantisation"], made["tier"]) == ("int8", held)
    assert recipe(quantisation="none") == recipe()


def test_what_waits_in_the_hosts_memory_is_told_of_a_gpu() -> None:
    task = render_task(**TASK, tier=tier(offload="model"))
    made = recipe_for(task, 1, ENGINE.model_copy(update={"device": "cuda"}), pipeline="P", sampler="S")
    assert made.model_dump()["tier"] == {"name": "lean", "offload": "model", "vae_tiling": False}


def test_an_embedding_is_told_by_its_word_and_its_content() -> None:
    easy = LocalEmbedding(EmbeddingUse(model_id="easy", word="bad hands"), ModelFiles(path="/e", digest=B))
    told = {"model_id": "easy", "word": "bad hands", "digest": B}
    assert recipe(embeddings=(easy,)).model_dump(mode="json")["embeddings"] == [told]
    assert "embeddings" not in recipe().model_dump()


def test_an_image_prompt_is_told_by_the_content_of_its_adapter_and_its_image() -> None:
    use = ImagePromptUse(model_id="plus", image=A, scale=0.5)
    red = LocalImagePrompt(use, ModelFiles(path="/p", digest=B), InputImage(path="/i", sha256=A))
    told = {"model_id": "plus", "image": A, "scale": 0.5, "digest": B}
    assert recipe(image_prompts=(red,)).model_dump(mode="json")["image_prompts"] == [told]
    assert "image_prompts" not in recipe().model_dump()


def test_a_recipe_is_read_back_as_it_was_written() -> None:
    made = recipe(init_image=InputImage(path="/p", sha256=B), strength=0.4)
    assert Recipe.model_validate_json(made.model_dump_json()) == made
