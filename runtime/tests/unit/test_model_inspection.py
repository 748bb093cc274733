"""What a model's files are is read from their headers, and what cannot run is refused with its part and the cure."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dreamforge.runtime.storage.model_facts import ModelUnusable
from dreamforge.runtime.storage.model_inspection import inspect_model
from dreamforge.runtime.testing.model_files import (
    CHECKPOINT,
    CONFIGURATIONS,
    INDEX,
    IP_ADAPTER,
    TEXT,
    UNET,
    VAE,
    WEIGHTS,
    Shapes,
    weights_path,
    write_json,
    write_pipeline,
    write_safetensors,
)

#: Floats of the three parts in `WEIGHTS`.
FLOATS = 8 * 4 * 9 + 4 * 8 * 9 + 8 * 4 * 9 + 16 * 768
SHARDS = ("-00001-of-00002", "-00002-of-00002")


def as_variant(variant: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for part in WEIGHTS:
            weights_path(folder, part).rename(weights_path(folder, part, variant))

    return change


def unet_as_fp16(folder: Path) -> None:
    weights_path(folder, UNET).rename(weights_path(folder, UNET, "fp16"))


def in_shards(folder: Path) -> None:
    """fp16 and in shards, named as diffusers and transformers do."""
    for part, stem in ((UNET, "diffusion_pytorch_model.fp16{}"), (TEXT, "model.fp16{}"), (VAE, "")):
        plain = weights_path(folder, part)
        if not stem:
            plain.rename(weights_path(folder, part, "fp16"))
            continue
        plain.unlink()
        names = [f"{stem.format(shard)}.safetensors" for shard in SHARDS]
        for name, (key, shape) in zip(names, ({"more.weight": (0,)} | dict(WEIGHTS[part])).items(), strict=False):
            write_safetensors(folder / part / name, {key: shape})
        keys = list({"more.weight": (0,)} | dict(WEIGHTS[part]))
        listed = {"weight_map": dict(zip(keys, names, strict=False))}
        write_json(folder / part / f"{stem.split('.', maxsplit=1)[0]}.safetensors.index.fp16.json", listed)


def beside_training_copies(folder: Path) -> None:
    weights_path(folder, UNET, "non_ema").write_bytes(weights_path(folder, UNET).read_bytes())
    weights_path(folder, UNET, "fp16").write_bytes(weights_path(folder, UNET).read_bytes())


@pytest.mark.parametrize(
    ("change", "variant"),
    [
        (lambda _: None, None),
        (unet_as_fp16, "fp16"),
        (as_variant("fp16"), "fp16"),
        (as_variant("bf16"), "bf16"),
        (beside_training_copies, None),
    ],
    ids=["plain", "unet-fp16", "fp16", "bf16", "non-ema"],
)
def test_each_part_is_read_in_the_variant_that_it_has_and_counted_once(
    tmp_path: Path, change: Callable[[Path], None], variant: str | None
) -> None:
    change(write_pipeline(tmp_path))
    facts = inspect_model(tmp_path)
    assert (facts.kind, facts.family, facts.modes) == ("pipeline", "stable-diffusion", ("text", "image", "inpaint"))
    assert (facts.variant, facts.side_px, facts.size.loaded_bytes(4)) == (variant, 512, 4 * FLOATS)
    assert len([name for name in facts.files if name.endswith(".safetensors")]) == len(WEIGHTS)


def test_shards_of_a_variant_are_read_together(tmp_path: Path) -> None:
    in_shards(write_pipeline(tmp_path))
    facts = inspect_model(tmp_path)
    assert facts.variant == "fp16"
    assert f"{UNET}/diffusion_pytorch_model.fp16{SHARDS[1]}.safetensors" in facts.files
    assert f"{UNET}/diffusion_pytorch_model.safetensors.index.fp16.json" in facts.files


def lose_a_shard(folder: Path) -> None:
    in_shards(folder)
    next((folder / UNET).glob(f"*{SHARDS[1]}*")).unlink()


def lose_the_list_of_shards(folder: Path) -> None:
    in_shards(folder)
    next((folder / UNET).glob("*.index.*")).unlink()


def empty_a_shard(folder: Path) -> None:
    in_shards(folder)
    write_safetensors(next((folder / UNET).glob(f"*{SHARDS[1]}*")), {"other.weight": (1,)})


def lose_a_part(folder: Path) -> None:
    for path in (folder / VAE).iterdir():
        path.unlink()
    (folder / VAE).rmdir()


def misname(folder: Path) -> None:
    weights_path(folder, VAE).rename(folder / VAE / "vae.safetensors")


def leave_only_a_pickle(folder: Path) -> None:
    weights_path(folder, VAE).rename(folder / VAE / "diffusion_pytorch_model.bin")


def cut(folder: Path) -> None:
    path = weights_path(folder, VAE)
    path.write_bytes(path.read_bytes()[:-1])


def with_mark(folder: Path) -> None:
    path = folder / VAE / "config.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def lose_the_vocabulary(folder: Path) -> None:
    (folder / "tokenizer" / "merges.txt").unlink()


def channels(reads: int, said: int | None = None) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        write_safetensors(weights_path(folder, UNET), {"conv_in.weight": (8, reads, 3, 3)})
        write_json(folder / UNET / "config.json", CONFIGURATIONS[UNET] | {"in_channels": said or reads})

    return change


def of_class(name: str) -> Callable[[Path], None]:
    return lambda folder: write_json(folder / "model_index.json", INDEX | {"_class_name": name}) and None


def quantised(folder: Path) -> None:
    write_json(folder / UNET / "config.json", CONFIGURATIONS[UNET] | {"quantization_config": {"quant_method": "hqq"}})


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lose_a_shard, "unet 1 of its 2 shards are missing, the first is number 2"),
        (lose_the_list_of_shards, r"unet the \.index\.json that lists its shards is missing"),
        (empty_a_shard, r"unet has no tensor conv_in\.weight in"),
        (lose_a_part, "vae is missing, but model_index.json lists it"),
        (misname, r"vae has no diffusion_pytorch_model\.safetensors \(it has vae\.safetensors\)"),
        (leave_only_a_pickle, r"vae has no diffusion_pytorch_model\.safetensors \(it has .*\.bin\)"),
        (cut, r"vae has \d+ bytes, but its header lists \d+"),
        (with_mark, "vae starts with a byte order mark; save it as UTF-8 without one"),
        (lose_the_vocabulary, r"tokenizer has no tokenizer\.json or vocab\.json and merges\.txt"),
        (channels(8), "unet reads 8 channels, which no render gives it; 4 channels are for a prompt"),
        (channels(9, 4), r"unet reads 9 channels, but its config\.json says 4"),
        (of_class("StableDiffusionControlNetPipeline"), "StableDiffusionControlNetPipeline, which needs other input"),
        (of_class("FluxFillPipeline"), "FluxFillPipeline, which needs other input"),
        (quantised, "unet is quantised by hqq, which the renderer does not read; take the weights as float16"),
    ],
)
def test_a_folder_that_cannot_run_is_refused_with_the_part(
    tmp_path: Path, harm: Callable[[Path], None], message: str
) -> None:
    harm(write_pipeline(tmp_path))
    with pytest.raises(ModelUnusable, match=message):
        inspect_model(tmp_path)


def test_nine_channels_can_only_inpaint(tmp_path: Path) -> None:
    channels(9)(write_pipeline(tmp_path))
    assert inspect_model(tmp_path).modes == ("inpaint",)


@pytest.mark.parametrize(
    ("name", "modes"), [("StableDiffusionXLImg2ImgPipeline", ("image",)), ("OtherPipeline", ("text",))]
)
def test_a_class_that_starts_from_an_image_is_not_offered_for_text(
    tmp_path: Path, name: str, modes: tuple[str, ...]
) -> None:
    of_class(name)(write_pipeline(tmp_path))
    assert inspect_model(tmp_path).modes == modes


def cache_of_a_hub(folder: Path, *revisions: str, main: str = "") -> Path:
    for revision in revisions:
        write_pipeline(folder / "snapshots" / revision)
    if main:
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(main)
    return folder


def test_the_cache_of_a_hub_stands_for_its_current_revision(tmp_path: Path) -> None:
    assert inspect_model(cache_of_a_hub(tmp_path / "one", "a1")).folder.name == "a1"
    assert inspect_model(cache_of_a_hub(tmp_path / "two", "a1", "b2", main="b2")).folder.name == "b2"
    with pytest.raises(ModelUnusable, match="name a revision: snapshots/a1, snapshots/b2"):
        inspect_model(cache_of_a_hub(tmp_path / "three", "a1", "b2"))
    cache_of_a_hub(tmp_path / "all" / "models--acme--tiny", "a1")
    with pytest.raises(ModelUnusable, match="is the cache of a hub; name one of its folders: models--acme--tiny"):
        inspect_model(tmp_path / "all")


def one_file(folder: Path, shapes: Shapes, dtype: str = "F16") -> Path:
    """A checkpoint beside the configurations of its parts."""
    write_pipeline(folder, weights=False)
    write_safetensors(folder / "model.safetensors", shapes, dtype)
    return folder


EMA = {f"model_ema.{name.replace('.', '')}": shape for name, shape in CHECKPOINT.items()}


@pytest.mark.parametrize("extra", [{}, EMA, {"alphas_cumprod": (1000,)}], ids=["whole", "ema", "tables"])
@pytest.mark.parametrize("dtype", ["F16", "F32", "F8_E4M3"])
def test_a_checkpoint_counts_what_is_loaded_in_the_precision_it_is_loaded_in(
    tmp_path: Path, extra: Shapes, dtype: str
) -> None:
    loaded = sum(8 * 4 * 9 if len(shape) == 4 else 16 * 768 for shape in CHECKPOINT.values())
    for path in (one_file(tmp_path, {**CHECKPOINT, **extra}, dtype), tmp_path / "model.safetensors"):
        facts = inspect_model(path)
        assert (facts.family, facts.size.loaded_bytes(2)) == ("stable-diffusion", 2 * loaded)
    assert facts.configuration == "stable-diffusion-v1-5/stable-diffusion-v1-5"


def test_a_folder_with_only_a_checkpoint_is_not_taken_for_a_pipeline(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "m.safetensors", CHECKPOINT)
    with pytest.raises(ModelUnusable, match="is a checkpoint without the configurations of its parts; add the file"):
        inspect_model(tmp_path)


def renamed(start: str, other: str) -> dict[str, tuple[int, ...]]:
    return {name.replace(start, other): shape for name, shape in CHECKPOINT.items()}


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({k: v for k, v in CHECKPOINT.items() if "cond_stage" not in k}, "has no text encoder; take a checkpoint that"),
        ({k: v for k, v in CHECKPOINT.items() if "first_stage" not in k}, "has no autoencoder"),
        (renamed("cond_stage_model.transformer.", "cond_stage_model.other."), "no family that the renderer knows"),
        ({**CHECKPOINT, "model.diffusion_model.input_blocks.0.0.weight": (8, 8, 3, 3)}, "U-Net reads 8 channels"),
        ({**CHECKPOINT, "scaled_fp8": (1,)}, "is quantised with scales"),
        ({"double_blocks.0.img_attn.norm.key_norm.scale": (1,)}, "is only the transformer of FLUX"),
        ({"control_model.time_embed.0.weight": (1,)}, "is a ControlNet without its configuration"),
        (IP_ADAPTER, "is an IP-Adapter without the image encoder that it was trained with; put it into a folder"),
        ({"emb_params": (1,)}, "is a textual inversion"),
        ({"clip_l": (2, 768), "clip_g": (3, 1280)}, "is a textual inversion"),
        ({"w": (1,)}, "is none of the files that a pipeline is made of"),
    ],
)
def test_a_file_that_is_no_whole_model_says_what_it_is(tmp_path: Path, shapes: Shapes, message: str) -> None:
    with pytest.raises(ModelUnusable, match=message):
        inspect_model(write_safetensors(tmp_path / "m.safetensors", shapes))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"GGUF\x03\x00\x00\x00", "is a GGUF file"),
        (b"PK\x03\x04" + bytes(40), "is a pickle"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is only a pointer of Git LFS"),
        (b"", "is not a safetensors file"),
    ],
)
def test_a_file_of_another_format_says_so(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(ModelUnusable, match=message):
        inspect_model(tmp_path / "m.safetensors")


def test_a_folder_without_any_model_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(ModelUnusable, match="has no safetensors file; name the file or the folder of a model"):
        inspect_model(tmp_path)
    write_pipeline(tmp_path / "below" / "one")
    with pytest.raises(ModelUnusable, match="name one of the folders in it: one"):
        inspect_model(tmp_path / "below")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(ModelUnusable, match=r"model_index\.json lists no part with weights"):
        inspect_model(tmp_path)
