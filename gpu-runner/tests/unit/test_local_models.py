"""A runner serves a folder only when it is what its descriptor says, and otherwise says what is wrong with it."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dreamforge.contracts.models.descriptor_file import FAMILIES, DescriptorInvalid, UnknownFamily
from dreamforge.contracts.models.model_files import PickleRefused
from dreamforge.gpu_runner.supervisor import local_models
from dreamforge.gpu_runner.supervisor.local_models import Seen, read_model, read_models
from dreamforge.runtime.storage.model_facts import ModelUnusable
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, ModelFilesWrong, model_digest
from dreamforge.runtime.testing.model_files import safetensors_bytes

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
UNET, VAE = "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"
FILES = {
    "model_index.json": json.dumps(INDEX).encode(),
    "unet/config.json": b'{"in_channels": 4}',
    UNET: safetensors_bytes({"conv_in.weight": (1, 4, 3, 3)}),
    "vae/config.json": b'{"latent_channels": 4}',
    VAE: safetensors_bytes({"conv_in.bias": (36,)}),
}


def described(folder: Path, *, pinned: bool = True, **changes: object) -> None:
    files = [
        {"path": path, "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for path, content in FILES.items()
    ]
    values: dict[str, Any] = {
        "model_id": folder.name,
        "family": "stable-diffusion",
        "digest": model_digest(folder),
        "vram": {"resident_bytes": 1, "denoise_bytes_per_latent": 1, "decode_bytes_per_px": 1},
        "presets": [{"name": "standard", "width_px": 64, "height_px": 64, "steps": 4, "guidance_scale": 1}],
        "source": {"kind": "folder", "location": folder.name, "files": files if pinned else []},
    }
    (folder / DESCRIPTOR_NAME).write_text(json.dumps(values | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "m"
    for path, content in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    described(folder)
    return folder


def test_a_folder_that_is_right_is_served(folder: Path, tmp_path: Path) -> None:
    assert read_models(tmp_path).keys() == {"m"}
    assert read_model(folder).folder == folder


def lose(folder: Path) -> None:
    (folder / VAE).unlink()


def corrupt(folder: Path) -> None:
    (folder / VAE).write_bytes(FILES[VAE][:-1] + b"x")


def cut(folder: Path) -> None:
    (folder / VAE).write_bytes(FILES[VAE][:-1])


def swap(folder: Path) -> None:
    (folder / VAE).write_bytes(FILES[UNET])
    (folder / UNET).write_bytes(FILES[VAE])


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lose, rf"{VAE}: is missing; {len(FILES[VAE])} bytes with sha256 \w+ belong there"),
        (corrupt, rf"{VAE}: has sha256 \w+, but must have \w+"),
        (cut, rf"{VAE}: has {len(FILES[VAE]) - 1} bytes, but must have {len(FILES[VAE])}"),
        (swap, rf"{VAE}: has the content of {UNET}"),
    ],
)
def test_each_wrong_file_is_named(folder: Path, tmp_path: Path, harm: Callable[[Path], None], told: str) -> None:
    harm(folder)
    with pytest.raises(ModelFilesWrong, match=told):
        read_model(folder)
    assert read_models(tmp_path) == {}


def test_without_pinned_files_the_digest_tells(folder: Path) -> None:
    described(folder, pinned=False)
    corrupt(folder)
    with pytest.raises(ModelFilesWrong, match="all files: have digest"):
        read_model(folder)


def test_a_pickle_is_refused_though_its_digest_is_right(folder: Path) -> None:
    (folder / "unet" / "weights.bin").write_bytes(b"\x80\x04")
    described(folder)
    with pytest.raises(PickleRefused, match=r"unet/weights\.bin"):
        read_model(folder)


def test_what_cannot_be_loaded_is_not_served_and_says_which_part(folder: Path, tmp_path: Path) -> None:
    (folder / VAE).rename(folder / "vae" / "vae.safetensors")
    described(folder, pinned=False)
    with pytest.raises(ModelUnusable, match=r"vae has no diffusion_pytorch_model\.safetensors \(it has vae"):
        read_model(folder)
    assert read_models(tmp_path) == {}


def test_modes_that_the_network_cannot_do_are_not_offered(folder: Path) -> None:
    (folder / "unet/config.json").write_text('{"in_channels": 9}')
    (folder / UNET).write_bytes(safetensors_bytes({"conv_in.weight": (1, 9, 3, 3)}))
    described(folder, pinned=False)
    offered = read_model(folder).descriptor.capabilities
    assert (offered.modes, offered.controlnet, offered.upscale_max) == (("inpaint",), False, 1.0)
    described(folder, pinned=False, parameters={"modes": ["text"]})
    with pytest.raises(ModelUnusable, match=r"parameters\.modes has text, but the network can do only inpaint"):
        read_model(folder)


def test_an_unknown_family_is_refused_with_the_known_ones(folder: Path) -> None:
    described(folder, family="dall-e")
    with pytest.raises(UnknownFamily, match="stable-diffusion-xl"):
        read_model(folder)


def test_a_descriptor_that_is_none_says_which_field(folder: Path) -> None:
    described(folder, digest="x")
    with pytest.raises(DescriptorInvalid, match="digest"):
        read_model(folder)


def test_a_folder_that_did_not_change_is_not_hashed_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Seen = {}
    first = read_models(tmp_path, seen)
    with monkeypatch.context() as patched:
        patched.setattr(local_models, "model_digest", lambda _: pytest.fail("hashed again"))
        assert read_models(tmp_path, seen) == first
    corrupt(folder)
    os.utime(folder / VAE, ns=(1, 1))
    assert read_models(tmp_path, seen) == {}


@pytest.mark.torch
def test_the_tiny_models_are_of_known_families(torch_installed: None) -> None:
    from runner_testkit.families import FAMILIES as TINY
    from runner_testkit.families import family_descriptor

    assert {family_descriptor(family, "0" * 64).family for family in TINY} <= set(FAMILIES)
