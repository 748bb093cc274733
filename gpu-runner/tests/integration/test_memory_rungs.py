"""Each rung of the memory ladder lets a render finish that a limited allocator had failed, on tiny pipelines."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runner_testkit.tasks import render_task
from runner_testkit.worker import Worker

from dreamforge.gpu_runner.protocol.memory_rungs import Rung
from dreamforge.gpu_runner.protocol.messages import Failed, FromChild, Image, Warned
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.renderer import ModelKey, ModelPlacement

pytestmark = pytest.mark.torch
FAMILY = "stable-diffusion"
#: Larger than a tile of the tiny autoencoder.
SIDE_PX = 128


@pytest.fixture(scope="module")
def limited() -> Any:
    """What limits the memory of all renders of this file. Any: its module imports torch."""
    from runner_testkit.memory_limit import LimitedMemory

    return LimitedMemory()


@pytest.fixture(scope="module")
def renderer(limited: Any) -> Any:
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer
    from dreamforge.gpu_runner.rendering.feature_list import standard_features

    return DiffusersRenderer(
        device="cpu", dtype="float32", threads=1, features=lambda device: (*standard_features(device), limited)
    )


@pytest.fixture(autouse=True)
def unlimited(limited: Any) -> Iterator[None]:
    yield
    limited.limit_bytes = None


def a_task(cache: Path, name: str, **changes: Any) -> RenderTask:
    from runner_testkit.families import ensure_family

    folder = str(ensure_family(cache, FAMILY))
    fields = {"task_id": name, "model_id": FAMILY, "model_path": folder, "steps": 2, "together_max": 2}
    return render_task(**fields | {"width_px": SIDE_PX, "height_px": SIDE_PX} | changes)


def run(renderer: Any, *tasks: RenderTask) -> list[FromChild]:
    return Worker(renderer).run(*tasks)


def files(heard: list[FromChild]) -> list[bytes]:
    return [each.body for each in heard if isinstance(each, Image)]


def codes(heard: list[FromChild]) -> list[str]:
    return [each.code.value for each in heard if isinstance(each, Warned) and each.code.startswith("memory")]


def needed(limited: Any) -> int:
    """Of the last run."""
    peak, held = limited.peaks[-1]
    return int(peak + held)


def test_other_models_leave_and_the_bytes_are_the_same(renderer: Any, limited: Any, cache: Path) -> None:
    from runner_testkit.families import ensure_family

    before = files(run(renderer, a_task(cache, "a")))
    limited.limit_bytes = needed(limited) + 10_000
    other = ModelKey("other", ensure_family(cache, "sdxl"), "0" * 64, ModelPlacement())
    renderer.load(other)
    heard = run(renderer, a_task(cache, "b"))
    assert codes(heard) == ["memory_released"]
    assert files(heard) == before
    assert not renderer.is_resident(other)


def test_a_batch_that_does_not_fit_is_rendered_in_smaller_ones(renderer: Any, limited: Any, cache: Path) -> None:
    tasks = [a_task(cache, "a"), a_task(cache, "b", seed=2)]
    before = [files(run(renderer, task))[0] for task in tasks]
    # The run that was measured had its texts kept from the one before: they take 128 KiB beside it.
    limited.limit_bytes = needed(limited) + 200_000
    heard = run(renderer, *tasks)
    assert codes(heard) == ["memory_smaller_batch"] * 2
    assert files(heard) == before


@pytest.mark.parametrize("rung", [Rung.TILED_DECODE, Rung.FLOAT8_STORAGE])
def test_a_rung_saves_memory_and_is_in_the_recipe(renderer: Any, limited: Any, cache: Path, rung: Rung) -> None:
    others = tuple(each for each in (Rung.TILED_DECODE,) if rung is Rung.FLOAT8_STORAGE)
    run(renderer, a_task(cache, "whole", rungs=others))
    whole_bytes = needed(limited)
    run(renderer, a_task(cache, "less", rungs=(*others, rung)))
    less_bytes = needed(limited)
    assert less_bytes < whole_bytes
    limited.limit_bytes = (less_bytes + whole_bytes) // 2
    worker = Worker(renderer)
    heard = worker.run(a_task(cache, "a", rungs=others))
    (image,) = [each for each in heard if isinstance(each, Image)]
    assert image.recipe.tier is not None
    assert image.recipe.tier.float8_storage is (rung is Rung.FLOAT8_STORAGE)
    assert image.recipe.tier.vae_tiling
    # The second task begins where the first one ended: one run, none before it that fails.
    runs = len(limited.peaks)
    again = worker.run(a_task(cache, "b"))
    assert len(limited.peaks) == runs + 1
    assert files(again) == files(heard)
    assert codes(again) == []


def test_a_device_that_is_too_small_for_every_rung_fails_with_the_numbers(
    renderer: Any, limited: Any, cache: Path
) -> None:
    limited.limit_bytes = 1000
    (failed,) = [each for each in run(renderer, a_task(cache, "a")) if isinstance(each, Failed)]
    assert "Tried to allocate" in failed.message
    assert "the model is in the host's memory anyway" in failed.message
    limited.limit_bytes = None
    assert files(run(renderer, a_task(cache, "b")))


@pytest.mark.gpu
def test_a_gpu_that_is_full_renders_on_with_the_next_rung(cache: Path, torch_gpu: None) -> None:
    """All but what the device holds already is taken by another tensor, until a rung that offloads is in use."""
    import torch

    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    renderer = DiffusersRenderer(device="cuda", dtype="float32", threads=1)
    before = files(run(renderer, a_task(cache, "a")))
    whole_bytes = torch.cuda.max_memory_reserved()
    total_bytes = renderer.device_report().total_bytes
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.9 * whole_bytes / total_bytes)
    try:
        heard = run(renderer, a_task(cache, "b"))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert codes(heard)
    assert len(before) == len(files(heard)) == 1
