"""What stands beside a model (a LoRA, an embedding, an IP-Adapter, a ControlNet, a VAE) is told by its layers."""

from pathlib import Path
from typing import Any

import pytest

from dreamforge.runtime.storage.model_facts import ModelUnusable
from dreamforge.runtime.storage.model_inspection import inspect_model
from dreamforge.runtime.testing.model_files import (
    IP_ADAPTER,
    LORA,
    Shapes,
    write_json,
    write_safetensors,
)


def lora(ends: tuple[str, str], layer: str = "lora_unet_mid_attn2_to_k", width: int = 768) -> Shapes:
    return {f"{layer}.{ends[0]}": (4, width), f"{layer}.{ends[1]}": (320, 4)}


KOHYA, PEFT = ("lora_down.weight", "lora_up.weight"), ("lora_A.weight", "lora_B.weight")


@pytest.mark.parametrize(
    ("shapes", "metadata", "family"),
    [
        (LORA, {}, "stable-diffusion"),
        (lora(PEFT, "unet.mid_block.attn2.to_v", 1024), {}, "stable-diffusion-2"),
        (lora(KOHYA, width=2048), {}, "stable-diffusion-xl"),
        (lora(KOHYA, "lora_te_text_model_encoder_layers_0_mlp_fc1"), {}, "stable-diffusion"),
        (lora(KOHYA, "lora_te2_text_model_encoder_layers_0_mlp_fc1", 1280), {}, "stable-diffusion-xl"),
        (lora(PEFT, "transformer.single_transformer_blocks.0.attn.to_q", 3072), {}, "flux"),
        (lora(("down.weight", "up.weight"), "double_blocks.0.processor.proj_lora1", 3072), {}, "flux"),
        (lora(PEFT, "transformer.transformer_blocks.0.attn.to_q", 1536), {}, "stable-diffusion-3"),
        (lora(KOHYA, width=64), {"ss_base_model_version": "sdxl_base_v1-0"}, "stable-diffusion-xl"),
        (lora(KOHYA, width=64), {"modelspec.architecture": "flux-1-dev/lora"}, "flux"),
        (lora(PEFT, "transformer.transformer_blocks.59.attn.to_q", 3072), {}, "qwen-image"),
        (lora(PEFT, "transformer.transformer_blocks.18.attn.to_q", 3072), {}, "flux"),
        (lora(PEFT, "diffusion_model.layers.3.attention.to_q", 3840), {}, "z-image"),
        (lora(PEFT, "transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj", 6144), {}, "flux-2"),
        (lora(PEFT, "transformer.single_transformer_blocks.0.attn.to_qkv_mlp_proj", 3072), {}, "flux-2-klein"),
        (lora(PEFT, "diffusion_model.double_blocks.0.img_attn.qkv", 4096), {}, "flux-2-klein"),
        (lora(PEFT, "diffusion_model.double_blocks.0.img_attn.qkv", 3072), {}, "flux"),
        (lora(PEFT, "double_blocks.0.img_attn.qkv", 3072), {"modelspec.architecture": "chroma"}, "chroma"),
        (lora(PEFT, "diffusion_model.double_stream_blocks.0.block.attn1.to_q", 2560), {}, "hidream"),
        (lora(PEFT, "transformer.transformer_blocks.0.attn1.to_q", 2240), {}, "sana"),
        (lora(KOHYA, width=64), {}, None),
    ],
)
def test_the_family_of_a_lora_is_read_from_shapes_then_from_what_its_trainer_wrote(
    tmp_path: Path, shapes: Shapes, metadata: dict[str, str], family: str | None
) -> None:
    facts = inspect_model(write_safetensors(tmp_path / "l.safetensors", shapes, metadata=metadata))
    assert (facts.kind, facts.family) == ("lora", family)


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        (("hada_w1_b", "hada_w1_a"), r"mid_attn2_to_k \(hada_w1_a, hada_w1_b\) has no partner"),
        (("lokr_w1", "lokr_w2_a"), r"to_k \(lokr_w1, lokr_w2_a\) has no partner"),
        (("lora_down.weight", "dora_scale"), r"dora_scale, lora_down.weight\) has no partner"),
        (("lora_down.weight", "lora_mid.weight"), "has no partner"),
        (("oft_blocks", "alpha"), "OFT"),
        (("weight", "on_input"), "IA3"),
        (("lora_down.weight", "diff"), "full differences"),
        (("lora_down.weight", "alpha"), "has no partner in the file"),
    ],
)
def test_a_lora_of_which_a_part_would_be_dropped_is_refused(
    tmp_path: Path, ends: tuple[str, str], message: str
) -> None:
    with pytest.raises(ModelUnusable, match=message):
        inspect_model(write_safetensors(tmp_path / "l.safetensors", lora(ends)))


LOHA = {"hada_w1_a": (320, 4), "hada_w1_b": (4, 768), "hada_w2_a": (320, 4), "hada_w2_b": (4, 768)}
LOKR = {"lokr_w1": (8, 16), "lokr_w2_a": (40, 4), "lokr_w2_b": (4, 128)}
DORA = {"lora_down.weight": (4, 1024), "lora_up.weight": (320, 4), "dora_scale": (320, 1)}


@pytest.mark.parametrize(
    ("ends", "family"), [(LOHA, "stable-diffusion"), (LOKR, "stable-diffusion-xl"), (DORA, "stable-diffusion-2")]
)
def test_loha_lokr_and_dora_are_loras_of_the_family_whose_texts_they_read(
    tmp_path: Path, ends: Shapes, family: str
) -> None:
    shapes = {f"lora_unet_mid_attn2_to_k.{end}": shape for end, shape in ends.items()}
    facts = inspect_model(write_safetensors(tmp_path / "l.safetensors", shapes))
    assert (facts.kind, facts.family) == ("lora", family)


@pytest.mark.parametrize(
    ("shapes", "family"),
    [
        ({"emb_params": (8, 768)}, "stable-diffusion"),
        ({"<cat>": (1024,)}, "stable-diffusion-2"),
        ({"clip_l": (2, 768), "clip_g": (2, 1280)}, "stable-diffusion-xl"),
    ],
)
def test_an_embedding_is_for_the_family_of_its_widths(tmp_path: Path, shapes: Shapes, family: str) -> None:
    facts = inspect_model(write_safetensors(tmp_path / "e.safetensors", shapes))
    assert (facts.kind, facts.family, facts.files) == ("embedding", family, ("e.safetensors",))


def write_ip_adapter(folder: Path, shapes: Shapes) -> Path:
    write_json(folder / "image_encoder" / "config.json", {"model_type": "clip_vision_model"})
    write_safetensors(folder / "image_encoder" / "model.safetensors", {"visual_projection.weight": (24, 16)})
    write_safetensors(folder / "adapter.safetensors", shapes)
    return folder


@pytest.mark.parametrize(("width", "family"), [(768, "stable-diffusion"), (2048, "stable-diffusion-xl"), (64, None)])
def test_an_ip_adapter_is_for_the_family_whose_texts_its_layers_read(
    tmp_path: Path, width: int, family: str | None
) -> None:
    layers = {"ip_adapter.1.to_k_ip.weight": (320, width)}
    facts = inspect_model(write_ip_adapter(tmp_path, IP_ADAPTER | layers))
    assert (facts.kind, facts.family, facts.is_family_sure) == ("ip_adapter", family, family is not None)
    assert facts.files == ("adapter.safetensors", "image_encoder/config.json", "image_encoder/model.safetensors")
    assert len(facts.part_sizes) == 2, "the encoder takes memory too"


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (LORA, "is none of the files that a pipeline is made of; an image_encoder belongs to an IP-Adapter"),
        ({"image_proj.proj.0.weight": (4, 4), "ip_adapter.1.to_k_ip.weight": (4, 4)}, r"for faces \(FaceID\)"),
    ],
)
def test_what_reads_no_image_beside_an_image_encoder_is_refused(tmp_path: Path, shapes: Shapes, message: str) -> None:
    with pytest.raises(ModelUnusable, match=message):
        inspect_model(write_ip_adapter(tmp_path, shapes))


def test_of_a_folder_with_several_loras_one_is_to_be_chosen(tmp_path: Path) -> None:
    for name in ("my.safetensors", "my-000002.safetensors"):
        write_safetensors(tmp_path / name, LORA)
    with pytest.raises(
        ModelUnusable, match=r"has 2 safetensors files: my-000002\.safetensors, my\.safetensors; .*choose one"
    ):
        inspect_model(tmp_path)
    write_safetensors(tmp_path / "pytorch_lora_weights.safetensors", LORA)
    assert inspect_model(tmp_path).files == ("pytorch_lora_weights.safetensors",)


def test_a_controlnet_has_its_configuration_and_its_family(tmp_path: Path) -> None:
    configuration = {"_class_name": "ControlNetModel", "cross_attention_dim": 2048}
    write_json(tmp_path / "config.json", configuration)
    with pytest.raises(ModelUnusable, match=r"weights has no diffusion_pytorch_model\.safetensors"):
        inspect_model(tmp_path)
    write_safetensors(tmp_path / "diffusion_pytorch_model.fp16.safetensors", {"controlnet_cond_embedding.bias": (8,)})
    facts = inspect_model(tmp_path)
    assert (facts.kind, facts.family, facts.variant) == ("controlnet", "stable-diffusion-xl", "fp16")
    for adapter_type, family in (("full_adapter_xl", "stable-diffusion-xl"), ("light_adapter", "stable-diffusion")):
        write_json(tmp_path / "config.json", {"_class_name": "T2IAdapter", "adapter_type": adapter_type})
        facts = inspect_model(tmp_path)
        assert (facts.kind, facts.family) == ("controlnet", family)
    for name, message in (
        ("UNet2DConditionModel", "is one part of a pipeline"),
        ("FluxControlNetModel", "another kind"),
    ):
        write_json(tmp_path / "config.json", configuration | {"_class_name": name})
        with pytest.raises(ModelUnusable, match=message):
            inspect_model(tmp_path)


@pytest.mark.parametrize(
    ("configuration", "family"),
    [
        ({}, "stable-diffusion"),
        ({"latent_channels": 4, "scaling_factor": 0.13025}, "stable-diffusion-xl"),
        ({"latent_channels": 16, "scaling_factor": 0.3611}, "flux"),
        ({"latent_channels": 8}, None),
    ],
)
def test_a_vae_has_the_family_of_its_latents(tmp_path: Path, configuration: Any, family: str | None) -> None:
    write_json(tmp_path / "config.json", {"_class_name": "AutoencoderKL"} | configuration)
    write_safetensors(tmp_path / "diffusion_pytorch_model.safetensors", {"decoder.conv_in.weight": (8, 4, 3, 3)})
    facts = inspect_model(tmp_path)
    assert (facts.kind, facts.family, facts.is_family_sure) == ("vae", family, family is not None)


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_a_vae_in_one_file_does_not_say_its_family(tmp_path: Path, prefix: str) -> None:
    sides = [f"{prefix}{side}.{end}.weight" for side in ("encoder", "decoder") for end in ("conv_in", "conv_out")]
    write_safetensors(tmp_path / "v.safetensors", dict.fromkeys((*sides, f"{prefix}decoder.mid.block_1.x"), (8, 8)))
    facts = inspect_model(tmp_path / "v.safetensors")
    assert (facts.kind, facts.family, facts.files) == ("vae", None, ("v.safetensors",))
    assert inspect_model(tmp_path) == facts
    write_safetensors(tmp_path / "v.safetensors", dict.fromkeys(sides[2:], (8, 8)))
    with pytest.raises(ModelUnusable, match="only an autoencoder"):
        inspect_model(tmp_path / "v.safetensors")
