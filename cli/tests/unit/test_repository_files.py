"""Of a repository, only the files are downloaded that its pipeline reads."""

import pytest

from dreamforge.cli.models.partial_file import ExpectedFile
from dreamforge.cli.models.repository_files import configuration_files, pipeline_files
from dreamforge.contracts.models.model_files import PickleRefused

PARTS = frozenset({"unet", "vae", "tokenizer", "scheduler"})
REPOSITORY = (
    ".gitattributes",
    "README.md",
    "model_index.json",
    "v1-pruned.ckpt",
    "v1-pruned.safetensors",
    "scheduler/scheduler_config.json",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.fp16.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
    "vae_1_0/diffusion_pytorch_model.safetensors",
)
BESIDES = {
    "model_index.json", "scheduler/scheduler_config.json", "tokenizer/merges.txt", "tokenizer/vocab.json",
    "unet/config.json", "vae/config.json",
}  # fmt: skip


def paths(names: tuple[str, ...], variant: str = "", parts: frozenset[str] | None = PARTS) -> set[str]:
    return {each.path for each in pipeline_files([ExpectedFile(name) for name in names], parts, variant)}


def test_without_a_variant_the_plain_weights_are_taken() -> None:
    weights = {"unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"}
    assert paths(REPOSITORY) == BESIDES | weights


def test_a_variant_that_every_part_has_is_taken() -> None:
    weights = {"unet/diffusion_pytorch_model.fp16.safetensors", "vae/diffusion_pytorch_model.fp16.safetensors"}
    assert paths(REPOSITORY, "fp16") == BESIDES | weights


def test_a_variant_that_one_part_lacks_is_not_mixed() -> None:
    names = tuple(name for name in REPOSITORY if name != "vae/diffusion_pytorch_model.fp16.safetensors")
    assert "unet/diffusion_pytorch_model.safetensors" in paths(names, "fp16")


def test_all_shards_are_taken() -> None:
    shards = tuple(f"unet/diffusion_pytorch_model-0000{number}-of-00003.safetensors" for number in (1, 2, 3))
    assert set(shards) <= paths(("model_index.json", *shards))


def test_weights_that_are_only_a_pickle_are_refused() -> None:
    with pytest.raises(PickleRefused, match="unet"):
        paths(("model_index.json", "unet/diffusion_pytorch_model.bin"))


def test_a_repository_that_is_not_a_pipeline_has_its_files_at_the_top() -> None:
    assert paths(("lora.safetensors", "x/other.safetensors"), parts=None) == {"lora.safetensors"}


def test_around_a_single_file_everything_but_weights_is_taken() -> None:
    names = (*REPOSITORY, "unet/diffusion_pytorch_model.safetensors.index.json")
    assert {each.path for each in configuration_files([ExpectedFile(name) for name in names], PARTS)} == BESIDES
