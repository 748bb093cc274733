"""Blocks stay compiled while LoRAs of the same layers are swapped, whatever their ranks and weights."""

from pathlib import Path
from threading import Event
from typing import Any

import pytest
from runner_testkit.tasks import LocalLora, changed, render_task, rendered

from dreamforge.contracts.events import WarningCode
from dreamforge.contracts.request.values import LoraUse
from dreamforge.gpu_runner.protocol.render_task import ModelFiles, RenderTask
from dreamforge.gpu_runner.rendering.renderer import RenderedImage

pytestmark = [pytest.mark.torch, pytest.mark.timeout(240)]
#: Of 255, in bytes that are differences of neighbours, so two levels of a pixel: sums in another order.
LEVELS_MAX = 4


class Counting:
    """A compiler that counts what it is given, and has torch call its own operators."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: Any, inputs: Any) -> Any:  # Any: as torch calls it
        self.graphs += 1
        return graph.forward


@pytest.fixture(scope="module")
def counting() -> Counting:
    return Counting()


@pytest.fixture(scope="module")
def compiler(counting: Counting) -> Any:  # Any: its module imports torch
    from dreamforge.gpu_runner.rendering.compiled_blocks import BlockCompiler

    return BlockCompiler(backend=counting)


@pytest.fixture(scope="module")
def renderer(compiler: Any) -> Any:  # Any: as above
    from functools import partial

    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer
    from dreamforge.gpu_runner.rendering.feature_list import standard_features

    features = partial(standard_features, compiler=compiler)
    return DiffusersRenderer(device="cpu", dtype="auto", threads=1, features=features)


def task_with(cache: Path, *loras: LocalLora, **values: Any) -> RenderTask:  # Any: whatever a field takes
    from runner_testkit.families import ensure_family

    folder = str(ensure_family(cache, "flux"))
    return render_task(model_id="flux", model_path=folder, steps=2, loras=loras, **values)


def lora(cache: Path, rank: int, weight: float = 1.0, **values: Any) -> LocalLora:  # Any: see `ensure_other_lora`
    from runner_testkit.assets import ensure_other_lora

    folder = ensure_other_lora(cache, "flux", rank, **values)
    return LocalLora(LoraUse(model_id="lora", weight=weight), ModelFiles(path=str(folder), digest=f"{rank:064}"))


def compiled(task: RenderTask) -> RenderTask:
    return changed(task, optimisations="compiled_blocks")


def levels_apart(one: RenderedImage, other: RenderedImage) -> int:
    return max(min((a - b) % 256, (b - a) % 256) for a, b in zip(one.scanlines, other.scanlines, strict=True))


def test_another_lora_of_the_same_layers_compiles_nothing(
    renderer: Any, compiler: Any, counting: Counting, cache: Path
) -> None:
    tasks = [task_with(cache, each) for each in (lora(cache, 4), lora(cache, 8, 0.5), lora(cache, 16, -1.5))]
    exact = [rendered(renderer, task) for task in tasks]
    first = rendered(renderer, compiled(tasks[0]))
    compiler.wait()
    graphs = counting.graphs
    assert (first.recipe.optimisations, first.scanlines, graphs > 0) == (None, exact[0].scanlines, True)
    swapped = [rendered(renderer, compiled(task)) for task in (*tasks, *tasks)]
    compiler.wait()
    assert {each.recipe.optimisations for each in swapped} == {"compiled_blocks"}
    assert counting.graphs == graphs
    assert all(levels_apart(*pair) <= LEVELS_MAX for pair in zip(swapped, (*exact, *exact), strict=True))
    assert len({each.scanlines for each in swapped}) == len(tasks)
    # Nothing is left behind, neither of a LoRA nor of what it was padded with.
    assert [rendered(renderer, task).scanlines for task in tasks] == [each.scanlines for each in exact]


def test_a_lora_of_other_layers_and_none_at_all_are_compiled_for_themselves(
    renderer: Any, compiler: Any, counting: Counting, cache: Path
) -> None:
    tasks = [compiled(task_with(cache)), compiled(task_with(cache, lora(cache, 4, layers=("to_k",))))]
    for task in tasks:
        graphs = counting.graphs
        assert rendered(renderer, task).recipe.optimisations is None
        compiler.wait()
        assert counting.graphs > graphs
    graphs = counting.graphs
    assert {rendered(renderer, task).recipe.optimisations for task in (*tasks, *tasks)} == {"compiled_blocks"}
    assert counting.graphs == graphs


def test_what_was_met_with_a_lora_is_compiled_after_it_has_left(renderer: Any, compiler: Any, cache: Path) -> None:
    """The thread that compiles comes to it when other renders have changed the blocks."""
    task, free = compiled(task_with(cache, lora(cache, 4), width_px=96)), Event()
    compiler._put(free.wait)
    assert rendered(renderer, task).recipe.optimisations is None
    rendered(renderer, task_with(cache))
    free.set()
    compiler.wait()
    assert rendered(renderer, task).recipe.optimisations == "compiled_blocks"


def test_a_strict_render_with_a_lora_waits_for_the_compiler_and_is_repeated(renderer: Any, cache: Path) -> None:
    task = compiled(task_with(cache, lora(cache, 8), determinism="strict", height_px=96))
    first, again = rendered(renderer, task), rendered(renderer, task)
    assert (first.recipe.optimisations, first.scanlines) == ("compiled_blocks", again.scanlines)


def test_changes_beside_the_layers_are_left_out_and_told(renderer: Any, cache: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    name, numbers = "lycoris_transformer_blocks_0_attn_to_q", torch.Generator().manual_seed(1)
    ends = {f"hada_w{side}_{end}": (64, 4) if end == "a" else (4, 64) for side in (1, 2) for end in "ab"}
    tensors = {f"{name}.{end}": torch.randn(shape, generator=numbers) for end, shape in ends.items()}
    save_file(tensors, file := tmp_path / "loha.safetensors")
    loha = LocalLora(LoraUse(model_id="lora"), ModelFiles(path=str(file), digest="3" * 64))
    task = task_with(cache, loha)
    image = rendered(renderer, compiled(task))
    assert image.scanlines == rendered(renderer, task).scanlines
    (told,) = image.warnings
    assert (told.code, told.words) == (WarningCode.OPTIMISATION_LEFT_OUT, ("compiled_blocks",))
    assert "LoHa" in told.message
