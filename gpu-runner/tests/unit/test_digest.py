"""A model's digest names its content: not its place, not its descriptor, not a downloader's leftovers."""

import shutil
from pathlib import Path

import pytest

from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, model_digest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "unet" / "weights.safetensors").write_bytes(b"w" * 1000)
    return folder


def test_a_copy_elsewhere_has_the_same_digest(model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(model, tmp_path / "elsewhere")
    assert model_digest(copy) == model_digest(model)


@pytest.mark.parametrize("name", [DESCRIPTOR_NAME, ".cache/etag", "unet/.lock"])
def test_what_is_not_the_model_does_not_count(model: Path, name: str) -> None:
    before = model_digest(model)
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("x")
    assert model_digest(model) == before


def test_any_change_of_the_model_shows(model: Path) -> None:
    seen = {model_digest(model)}
    (model / "unet" / "weights.safetensors").write_bytes(b"w" * 999 + b"v")
    seen.add(model_digest(model))
    (model / "unet" / "weights.safetensors").rename(model / "unet" / "other.safetensors")
    seen.add(model_digest(model))
    (model / "empty").write_bytes(b"")
    seen.add(model_digest(model))
    assert len(seen) == 4


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        model_digest(tmp_path)
