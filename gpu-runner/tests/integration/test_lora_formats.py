"""A LoRA is applied as a whole, in each of the formats that trainers write, or refused with its keys."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from runner_testkit.tasks import LocalLora, render_task

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.request.values import LoraUse
from dreamforge.gpu_runner.protocol.render_task import ModelFiles
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderFailed

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = pytest.mark.torch
ATTENTION = ("to_q", "to_k", "to_v")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
RANK, ALPHA = 4, 2.0


@pytest.fixture(scope="module")
def renderer() -> Any:
    """A renderer on the CPU. Any: its module imports torch."""
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


def layers(module: Any, ends: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """The linear layers of a part whose names end so."""
    import torch

    for name, each in module.named_modules():
        if isinstance(each, torch.nn.Linear) and name.endswith(ends):
            yield name, each


def kohya(module: Any, prefix: str, ends: tuple[str, ...], *, add: bool = False) -> "dict[str, Tensor]":
    """A LoRA in the layout of kohya's trainer; `add` adds the same numbers to the weights by hand."""
    import torch

    generator = torch.Generator().manual_seed(7)
    tensors: dict[str, Tensor] = {}
    for name, layer in layers(module, ends):
        # kohya's names for CLIP have "text_model", whatever transformers calls its modules today.
        plain = f"text_model.{name.removeprefix('text_model.')}" if "_te" in prefix else name
        key = prefix + plain.replace(".", "_")
        down = torch.randn(RANK, layer.in_features, generator=generator) * 0.3
        up = torch.randn(layer.out_features, RANK, generator=generator) * 0.3
        tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(ALPHA)}
        if add:
            layer.weight.data += up @ down * ALPHA / RANK
    return tensors


def saved(tensors: "dict[str, Tensor]", folder: Path, name: str) -> LocalLora:
    """A LoRA in a file."""
    from safetensors.torch import save_file

    save_file({key: tensor.clone().contiguous() for key, tensor in tensors.items()}, folder / f"{name}.safetensors")
    files = ModelFiles(path=str(folder / f"{name}.safetensors"), digest="1" * 64)
    return LocalLora(LoraUse(model_id=name), files)


def render(renderer: Any, folder: Path, *loras: LocalLora) -> Any:
    """The pixels of one image, as numbers. Any: an array."""
    task = render_task(model_id=folder.name, model_path=str(folder), steps=2, loras=loras)
    key = ModelKey.of_task(task)
    if not renderer.is_resident(key):
        renderer.load(key)
    rows = np.frombuffer(renderer.render(task, 1, lambda step, of, preview=None: None).scanlines, np.uint8)
    differences = rows.reshape(64, 1 + 3 * 64)[:, 1:].reshape(64, 64, 3)
    return np.cumsum(differences.astype(np.uint64), axis=1).astype(np.uint8).astype(int)


def refused(renderer: Any, folder: Path, lora: LocalLora) -> str:
    """Why a LoRA is refused; nothing of it stays."""
    before = render(renderer, folder)
    with pytest.raises(RenderFailed) as failed:
        render(renderer, folder, lora)
    assert failed.value.reason is FailureReason.INVALID_REQUEST
    assert not failed.value.retryable
    assert np.array_equal(render(renderer, folder), before)
    return str(failed.value)


@pytest.mark.parametrize(
    ("family", "prefixes"),
    [
        ("stable-diffusion", {"unet": "lora_unet_"}),
        ("stable-diffusion", {"text_encoder": "lora_te_"}),
        ("stable-diffusion", {"unet": "lora_unet_", "text_encoder": "lora_te_"}),
        ("sdxl", {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}),
    ],
)
def test_a_lora_of_kohya_does_what_its_numbers_added_by_hand_do(
    renderer: Any, cache: Path, tmp_path: Path, family: str, prefixes: dict[str, str]
) -> None:
    from runner_testkit.families import build_family, ensure_family

    folder, tensors = ensure_family(cache, family), {}
    pipeline: Any = build_family(family)
    for part, prefix in prefixes.items():
        tensors |= kohya(getattr(pipeline, part), prefix, TEXT if "_te" in prefix else ATTENTION, add=True)
    pipeline.save_pretrained(str(tmp_path / "by-hand"), safe_serialization=True)
    by_hand, without = render(renderer, tmp_path / "by-hand"), render(renderer, folder)
    with_lora = render(renderer, folder, saved(tensors, tmp_path, "lora"))
    assert np.abs(with_lora - by_hand).max() <= 2  # the order of additions differs
    assert np.abs(by_hand - without).max() > 2


def unet_lora(family: str) -> "dict[str, Tensor]":
    """A LoRA of kohya for a family's U-Net."""
    from runner_testkit.families import build_family

    pipeline: Any = build_family(family)
    return kohya(pipeline.unet, "lora_unet_", ATTENTION)


def test_half_of_a_lora_that_has_no_layer_is_refused_with_its_keys(renderer: Any, cache: Path, tmp_path: Path) -> None:
    from runner_testkit.families import ensure_family

    whole = unet_lora("stable-diffusion")
    half = list(whole)[: len(whole) // 6 * 3]
    renamed = {key.replace("blocks_0", "blocks_7") if key in half else key: each for key, each in whole.items()}
    assert len(renamed) == len(whole)
    message = refused(renderer, ensure_family(cache, "stable-diffusion"), saved(renamed, tmp_path, "half"))
    assert f"no layer for {len(half) // 3 * 2} of its keys: lora_unet_" in message
    assert "blocks_7" in message


def test_keys_of_a_part_that_the_model_does_not_have_are_refused(renderer: Any, cache: Path, tmp_path: Path) -> None:
    from runner_testkit.assets import ensure_lora
    from runner_testkit.families import ensure_family
    from safetensors.torch import load_file

    (file,) = ensure_lora(cache, "sd3").glob("*.safetensors")
    tensors = load_file(file)
    other = {key.replace("transformer.", "transformer_7.", 1): each for key, each in tensors.items()}
    message = refused(renderer, ensure_family(cache, "sd3"), saved(tensors | other, tmp_path, "two"))
    assert f"no layer for {len(other)} of its keys: transformer_7." in message


def test_a_file_that_is_none_is_broken(renderer: Any, cache: Path, tmp_path: Path) -> None:
    from runner_testkit.families import ensure_family

    (tmp_path / "text.safetensors").write_bytes(b"no header of any kind")
    files = ModelFiles(path=str(tmp_path / "text.safetensors"), digest="1" * 64)
    with pytest.raises(RenderFailed, match=r"text\.safetensors cannot be read") as failed:
        render(renderer, ensure_family(cache, "stable-diffusion"), LocalLora(LoraUse(model_id="text"), files))
    assert failed.value.reason is FailureReason.MODEL_BROKEN
