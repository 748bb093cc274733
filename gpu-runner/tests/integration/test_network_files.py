"""Transformers as people pass them around: one file, in the original layout, in fp8 or quantised as GGUF."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from runner_testkit.tasks import render_task

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderFailed
from dreamforge.runtime.storage.model_facts import ModelUnusable
from dreamforge.runtime.storage.model_inspection import inspect_model

pytestmark = pytest.mark.torch
#: Values of a block of Q8_0, which is what a row is cut into (the format's specification).
BLOCK = 32
Write = Callable[[dict[str, Any], Path], None]  # Any: tensors


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, torch_installed: None) -> Path:
    """Where the tiny models are built, once."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def renderer() -> Any:
    """A renderer on the CPU. Any: its module imports torch."""
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


def with_network_file(cache: Path, to: Path, write: Write, family: str = "qwen-image") -> Path:
    """A copy of a tiny pipeline whose transformer is one file of another name."""
    from runner_testkit.families import ensure_family
    from safetensors.torch import load_file

    shutil.copytree(ensure_family(cache, family), to)
    (weights,) = (to / "transformer").glob("*.safetensors")
    tensors = load_file(weights)
    weights.unlink()
    write(tensors, to / "transformer")
    return to


def as_it_is(tensors: dict[str, Any], folder: Path) -> None:
    from safetensors.torch import save_file

    save_file(tensors, folder / "network-fp32.safetensors")


def in_fp8(tensors: dict[str, Any], folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    small = {name: each.to(torch.float8_e4m3fn) if each.ndim == 2 else each for name, each in tensors.items()}
    save_file(small, folder / "network-fp8.safetensors")


def with_a_scale(tensors: dict[str, Any], folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file(tensors | {"img_in.scale_weight": torch.ones(1)}, folder / "network-scaled.safetensors")


def without_a_weight(tensors: dict[str, Any], folder: Path) -> None:
    from safetensors.torch import save_file

    save_file({name: each for name, each in tensors.items() if name != "img_in.weight"}, folder / "cut.safetensors")


def as_gguf(tensors: dict[str, Any], folder: Path) -> None:
    """Matrices of the blocks as Q8_0, the rest as float32: what the tools that make such files do."""
    import gguf

    writer = gguf.GGUFWriter(str(folder / "network-Q8_0.gguf"), "qwen_image")
    for name, tensor in tensors.items():
        values = tensor.float().numpy()
        if tensor.ndim == 2 and "transformer_blocks" in name and tensor.shape[1] % BLOCK == 0:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def rendered(renderer: Any, folder: Path) -> bytes:
    task = render_task(model_id=folder.name, model_path=str(folder), steps=2)
    key = ModelKey.of_task(task)
    if not renderer.is_resident(key):
        renderer.load(key)
    assert renderer.warnings(task) == ()
    rows: bytes = renderer.render(task, 1, lambda step, of, preview: None).scanlines
    return rows


@pytest.mark.parametrize("write", [as_it_is, in_fp8, as_gguf])
def test_a_network_in_one_file_renders_as_the_pipeline_that_it_is_of(
    renderer: Any, cache: Path, tmp_path: Path, write: Write
) -> None:
    from runner_testkit.families import ensure_family

    from dreamforge.gpu_runner.rendering.weight_check import check_weights

    whole = ensure_family(cache, "qwen-image")
    folder = with_network_file(cache, tmp_path / write.__name__, write)
    facts = inspect_model(folder)
    assert (facts.family, facts.is_family_sure) == ("qwen-image", True)
    (file,) = (folder / "transformer").glob("network-*")
    assert f"transformer/{file.name}" in facts.files
    assert check_weights(folder).ignored_keys == []
    alike = likeness(rendered(renderer, folder), rendered(renderer, whole))
    assert alike == 0 if write is as_it_is else 0 < alike < 32
    if write is as_gguf:
        # It stays quantised: as many bytes in memory as in the file, whatever floats are loaded as.
        grown = facts.size.loaded_bytes(4) - facts.size.loaded_bytes(2)
        assert grown < inspect_model(whole).size.loaded_bytes(4) - inspect_model(whole).size.loaded_bytes(2)


def likeness(one: bytes, other: bytes) -> float:
    """Mean difference of two images of 64 x 64, in steps of 8 bits."""
    import numpy as np

    # Each pixel is there as its difference from the one to its left (see `scanlines`).
    rows = (np.frombuffer(each, np.uint8).reshape(64, 1 + 64 * 3)[:, 1:].reshape(64, 64, 3) for each in (one, other))
    first, second = (each.cumsum(axis=1, dtype=np.uint8).astype(int) for each in rows)
    return float(np.abs(first - second).mean())


def test_a_file_that_does_not_fit_is_refused_with_what_is_missing(renderer: Any, cache: Path, tmp_path: Path) -> None:
    cut = with_network_file(cache, tmp_path / "cut", without_a_weight)
    with pytest.raises(RenderFailed, match=r"transformer: 1 weights are missing from its files: img_in\.weight") as bad:
        rendered(renderer, cut)
    assert bad.value.reason is FailureReason.MODEL_BROKEN
    scaled = with_network_file(cache, tmp_path / "scaled", with_a_scale)
    with pytest.raises(ModelUnusable, match=r"img_in\.scale_weight.*plain float8 or GGUF"):
        inspect_model(scaled)
    torn = with_network_file(cache, tmp_path / "torn", lambda _, to: (to / "a.gguf").write_bytes(b"GGUF") and None)
    with pytest.raises(ModelUnusable, match=r"has a\.gguf, which is not a GGUF file"):
        inspect_model(torn)
