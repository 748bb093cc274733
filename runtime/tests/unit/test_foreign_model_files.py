"""A model's folder holds files that are only read, each covered by its digest, and nothing in it leads elsewhere."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dreamforge.contracts.models.model_files import ModelFileRefused, PickleRefused
from dreamforge.runtime.storage.model_facts import ModelUnusable
from dreamforge.runtime.storage.model_folder import refuse_foreign_files
from dreamforge.runtime.storage.model_inspection import inspect_model
from dreamforge.runtime.testing.model_files import INDEX, UNET, write_json, write_pipeline

SHARDS = "diffusion_pytorch_model.safetensors.index.json"


def link_to_folder(folder: Path) -> None:
    (folder / "unet").rename(folder.parent / "elsewhere")
    (folder / "unet").symlink_to(folder.parent / "elsewhere")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda folder: (folder / "unet" / "hook.py").touch(), ModelFileRefused),
        (lambda folder: (folder / "unet" / "old.bin").touch(), PickleRefused),
        (lambda folder: os.mkfifo(folder / "unet" / "extra.json"), ModelFileRefused),
        (lambda folder: (folder / "gone.json").symlink_to(folder / "nowhere"), ModelFileRefused),
        (link_to_folder, ModelFileRefused),
    ],
)
def test_what_is_not_read_as_a_model_is_refused(
    tmp_path: Path, change: Callable[[Path], None], error: type[Exception]
) -> None:
    folder = write_pipeline(tmp_path / "m")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "state.lock").touch()  # of download tools: nothing that loads a model reads it
    (folder / "LICENSE").touch()
    refuse_foreign_files(folder)
    change(folder)
    with pytest.raises(error):
        refuse_foreign_files(folder)


@pytest.mark.parametrize(
    "shard", ["../../other/secret.safetensors", "/etc/hostname.safetensors", ".hidden.safetensors", "x.bin", 7]
)
def test_a_list_of_shards_names_files_of_its_own_folder_only(tmp_path: Path, shard: object) -> None:
    folder = write_pipeline(tmp_path / "m")
    write_json(folder / UNET / SHARDS, {"weight_map": {"conv_in.weight": shard}})
    with pytest.raises(ModelUnusable, match="as a shard"):
        inspect_model(folder)


@pytest.mark.parametrize(
    ("name", "value"),
    [("../other", ["diffusers", "UNet2DConditionModel"]), ("unet", ["os", "system"]), ("unet", ["a.b", "C"])],
)
def test_a_part_is_a_folder_and_a_class_of_a_pipeline(tmp_path: Path, name: str, value: list[str]) -> None:
    folder = write_pipeline(tmp_path / "m")
    write_json(folder / "model_index.json", INDEX | {name: value})
    with pytest.raises(ModelUnusable):
        inspect_model(folder)
