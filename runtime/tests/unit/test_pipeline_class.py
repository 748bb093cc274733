"""A pipeline's class and configurations say its family, what it starts from, and whether guidance means anything."""

from pathlib import Path
from typing import Any

import pytest

from dreamforge.contracts.models.descriptor import FAMILY_PARAMETERS
from dreamforge.runtime.storage.model_facts import ModelUnusable
from dreamforge.runtime.storage.pipeline_class import (
    FAMILIES,
    check_left_out,
    family_of,
    is_distilled,
    modes_of,
    side_px_of,
)

NOTHING: dict[str, Any] = {}
#: Channels of the networks as they are published; 2 x 2 latents are packed into one token where there are 4 times more.
PUBLISHED = {
    "FluxPipeline": ("FluxTransformer2DModel", 64, {"latent_channels": 16}),
    "Flux2Pipeline": ("Flux2Transformer2DModel", 128, {"latent_channels": 32}),
    "Flux2KleinPipeline": ("Flux2Transformer2DModel", 128, {"latent_channels": 32}),
    "QwenImagePipeline": ("QwenImageTransformer2DModel", 64, {"z_dim": 16}),
    "ZImagePipeline": ("ZImageTransformer2DModel", 16, {"latent_channels": 16}),
    "ChromaPipeline": ("ChromaTransformer2DModel", 64, {"latent_channels": 16}),
    "HiDreamImagePipeline": ("HiDreamImageTransformer2DModel", 16, {"latent_channels": 16}),
    "SanaPipeline": ("SanaTransformer2DModel", 32, {"latent_channels": 32}),
    "SanaSprintPipeline": ("SanaTransformer2DModel", 32, {"latent_channels": 32}),
    "StableDiffusion3Pipeline": ("SD3Transformer2DModel", 16, {"latent_channels": 16}),
}


def configurations(class_name: str, channels: int | None = None) -> dict[str, Any]:
    network, reads, vae = PUBLISHED[class_name]
    return {"transformer": {"_class_name": network, "in_channels": channels or reads}, "vae": vae}


@pytest.mark.parametrize("class_name", PUBLISHED)
def test_a_published_pipeline_has_its_family_and_the_modes_of_it(class_name: str) -> None:
    family, is_sure = family_of(class_name, NOTHING)
    assert (family, is_sure) == (FAMILIES[class_name.removesuffix("Pipeline")], True)
    modes = modes_of(Path("m"), class_name, configurations(class_name), None)
    assert modes == FAMILY_PARAMETERS[family].modes


def test_a_class_of_one_mode_is_offered_for_no_other() -> None:
    files = configurations("QwenImagePipeline")
    assert modes_of(Path("m"), "QwenImageInpaintPipeline", files, None) == ("image", "inpaint")
    with pytest.raises(ModelUnusable, match="names QwenImageControlNetPipeline, which needs other input"):
        modes_of(Path("m"), "QwenImageControlNetPipeline", files, None)


def test_a_network_of_other_channels_is_refused_with_the_right_number() -> None:
    files = configurations("ChromaPipeline", 80)
    with pytest.raises(ModelUnusable, match=r"reads 80 channels.*64 channels are for a prompt"):
        modes_of(Path("m"), "ChromaPipeline", files, None)


@pytest.mark.parametrize(
    ("family", "index", "transformer", "scheduler", "expected"),
    [
        ("flux", {}, {"guidance_embeds": False}, {}, True),
        ("flux", {}, {"guidance_embeds": True}, {}, False),
        ("qwen-image", {}, {"guidance_embeds": False}, {}, False),
        ("flux-2-klein", {"is_distilled": True}, {"guidance_embeds": False}, {}, True),
        ("flux-2-klein", {"is_distilled": False}, {"guidance_embeds": False}, {}, False),
        ("z-image", {}, {}, {"shift": 3.0}, True),
        ("z-image", {}, {}, {"shift": 6.0}, False),
    ],
)
def test_whether_guidance_was_distilled_away_is_read_where_each_family_says_it(
    family: str, index: dict[str, Any], transformer: dict[str, Any], scheduler: dict[str, Any], *, expected: bool
) -> None:
    assert is_distilled(family, index, {"transformer": transformer}, scheduler) is expected


def test_hidream_without_its_llama_is_refused_with_what_is_missing() -> None:
    llama = {name: ["transformers", "LlamaForCausalLM"] for name in ("text_encoder_4", "tokenizer_4")}
    check_left_out(Path("m"), "hidream", llama)
    check_left_out(Path("m"), "sana", NOTHING)
    with pytest.raises(ModelUnusable, match=r"text_encoder_4 is left out of these files; .*Llama 3\.1 8B"):
        check_left_out(Path("m"), "hidream", {"text_encoder_4": [None, None]})


def test_the_side_of_sana_is_counted_by_the_levels_of_its_decoder() -> None:
    vae = {"decoder_block_out_channels": [128, 256, 512, 512, 1024, 1024]}
    assert side_px_of({"transformer": {"sample_size": 32}, "vae": vae}) == 1024
