"""An optimisation gives the same image, is told in its recipe, and leaves nothing behind for the next task."""

from pathlib import Path
from typing import Any

import pytest
from runner_testkit.tasks import LocalLora, changed, render_task, rendered

from dreamforge.contracts.events import WarningCode
from dreamforge.contracts.request.values import LoraUse
from dreamforge.gpu_runner.protocol.render_task import ModelFiles, RenderTask
from dreamforge.gpu_runner.rendering.renderer import RenderedImage, RenderWarning

pytestmark = [pytest.mark.torch, pytest.mark.timeout(240)]
USUAL = "channels_last"
#: Of 255. Sums in another order end a rounding away.
LEVELS_MAX = 2


@pytest.fixture(scope="module")
def compiler() -> Any:  # Any: its module imports torch
    """torch takes the code of blocks apart, as always, and then calls its own operators instead of compiling them."""
    from dreamforge.gpu_runner.rendering.compiled_blocks import BlockCompiler

    return BlockCompiler(backend="eager")


@pytest.fixture(scope="module")
def renderer(compiler: Any) -> Any:  # Any: see below
    from functools import partial

    # Not imported before a test needs it: it brings torch.
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer
    from dreamforge.gpu_runner.rendering.feature_list import standard_features

    features = partial(standard_features, optimisations=(USUAL,), compiler=compiler)
    return DiffusersRenderer(device="cpu", dtype="auto", threads=1, features=features)


def task_of(cache: Path, family: str, **values: Any) -> RenderTask:  # Any: whatever a field takes
    """Two steps of a tiny model, in exactly the way that the request names."""
    from runner_testkit.families import ensure_family

    folder = str(ensure_family(cache, family))
    return render_task(model_id=family, model_path=folder, steps=2, determinism="strict", **values)


def levels_apart(one: RenderedImage, other: RenderedImage) -> int:
    """The most that any byte differs by; rows are differences of neighbours, so it is twice that of a pixel at most."""
    pairs = zip(one.scanlines, other.scanlines, strict=True)
    return max(min((a - b) % 256, (b - a) % 256) for a, b in pairs)


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("sdxl", "channels_last,fused_projections"),
        ("flux", "fused_projections,attention_flash"),
    ],
)
def test_it_gives_the_same_image_and_leaves_nothing_behind(renderer: Any, cache: Path, family: str, names: str) -> None:
    exact = task_of(cache, family)
    optimised = changed(exact, optimisations=names)
    before, first, second, after = (rendered(renderer, task) for task in (exact, optimised, optimised, exact))
    assert before.scanlines == after.scanlines
    assert first.scanlines == second.scanlines
    assert levels_apart(before, first) <= 2 * LEVELS_MAX
    assert first.recipe.optimisations == names
    assert "optimisations" not in before.recipe.model_dump()
    assert renderer.warnings(optimised) == ()


def test_a_runner_has_its_own_for_renders_that_name_none_and_need_not_be_exact(renderer: Any, cache: Path) -> None:
    exact = task_of(cache, "sdxl")
    found = {
        determinism: rendered(renderer, changed(exact, determinism=determinism)).recipe.optimisations
        for determinism in ("batched", "strict")
    }
    assert found == {"batched": USUAL, "strict": None}
    without = rendered(renderer, changed(exact, determinism="batched", optimisations="none"))
    assert without.recipe.optimisations is None
    placed = changed(exact, determinism=None, geometry={"size": 2, "place": 0}, optimisations="channels_last")
    assert rendered(renderer, placed).recipe.optimisations == "channels_last"


def test_what_a_model_cannot_have_is_left_out_and_told(renderer: Any, cache: Path) -> None:
    task = task_of(cache, "sdxl", optimisations="channels_last,attention_flash")
    assert rendered(renderer, task).recipe.optimisations == "channels_last"
    why = "attention_flash is left out: its denoiser computes attention in one way only"
    assert renderer.warnings(task) == (RenderWarning(WarningCode.OPTIMISATION_LEFT_OUT, why, ("attention_flash",)),)


def test_a_lora_is_seen_beside_fused_projections(renderer: Any, cache: Path) -> None:
    from runner_testkit.assets import ensure_lora

    plain = task_of(cache, "sdxl", optimisations="fused_projections")
    fused = rendered(renderer, plain)
    lora = LocalLora(LoraUse(model_id="lora"), ModelFiles(path=str(ensure_lora(cache, "sdxl")), digest="1" * 64))
    with_lora = task_of(cache, "sdxl", optimisations="fused_projections", loras=(lora,))
    shown = rendered(renderer, with_lora)
    exact = rendered(renderer, changed(with_lora, optimisations=None))
    assert shown.scanlines == exact.scanlines != fused.scanlines
    assert shown.recipe.optimisations is None
    assert "change the projections" in renderer.warnings(with_lora)[0].message
    assert rendered(renderer, plain).scanlines == fused.scanlines


def test_a_kernel_that_is_not_there_is_replaced_and_told(renderer: Any, cache: Path) -> None:
    """cuDNN computes no attention on a CPU."""
    task = task_of(cache, "flux", optimisations="attention_cudnn")
    image, exact = rendered(renderer, task), rendered(renderer, task_of(cache, "flux"))
    assert image.scanlines == exact.scanlines
    assert image.recipe.optimisations is None
    told = (*image.warnings, *renderer.warnings(task))
    assert told[-1].code is WarningCode.OPTIMISATION_LEFT_OUT
    assert told[-1].words == ("attention_cudnn",)


def test_blocks_are_compiled_after_a_run_that_did_not_wait_for_it(renderer: Any, compiler: Any, cache: Path) -> None:
    exact = task_of(cache, "flux")
    task = changed(exact, determinism="batched", optimisations="compiled_blocks")
    first = rendered(renderer, task)
    compiler.wait()
    second, third = rendered(renderer, task), rendered(renderer, task)
    assert (first.recipe.optimisations, second.recipe.optimisations) == (None, "compiled_blocks")
    assert second.scanlines == third.scanlines
    assert levels_apart(first, second) <= 2 * LEVELS_MAX
    # Shapes that are not compiled: as a whole without.
    larger = changed(task, width_px=96)
    assert rendered(renderer, larger).recipe.optimisations is None
    # A request for certain bytes is made in one way, and waits for it.
    waited = rendered(renderer, changed(larger, height_px=96, determinism="strict"))
    assert waited.recipe.optimisations == "compiled_blocks"
    assert rendered(renderer, exact).scanlines == first.scanlines
    # What was compiled is kept while others do without.
    assert rendered(renderer, task).scanlines == second.scanlines


def test_a_run_that_meets_new_shapes_half_way_begins_again_without(renderer: Any, compiler: Any, cache: Path) -> None:
    """Of an SDXL U-Net the first blocks may be compiled when the next ones are not yet."""
    task = changed(task_of(cache, "sdxl"), determinism="batched", optimisations="compiled_blocks")
    first = rendered(renderer, task)
    compiler.wait()
    blocks = list(compiler._of.values())[-1]
    whole = blocks.ready
    blocks.ready = frozenset(each for each in whole if each is not max(whole, key=str))
    second = rendered(renderer, task)
    assert second.recipe.optimisations is None
    assert second.scanlines == first.scanlines
    blocks.ready = whole
    assert rendered(renderer, task).recipe.optimisations == "compiled_blocks"


@pytest.mark.parametrize("determinism", ["batched", "strict"])
def test_a_compiler_that_fails_is_told_once_and_nothing_else_changes(cache: Path, determinism: str) -> None:
    from functools import partial

    from dreamforge.gpu_runner.rendering.compiled_blocks import BlockCompiler
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer
    from dreamforge.gpu_runner.rendering.feature_list import standard_features

    def without_compiler(graph: Any, inputs: Any) -> Any:  # Any: as torch calls it
        raise RuntimeError("No working C++ compiler found")

    compiler = BlockCompiler(without_compiler)
    features = partial(standard_features, optimisations=("compiled_blocks",), compiler=compiler)
    renderer = DiffusersRenderer(device="cpu", dtype="auto", threads=1, features=features)
    task = changed(task_of(cache, "flux"), determinism=determinism)
    if determinism == "strict":
        task = changed(task, optimisations="compiled_blocks")
    first = rendered(renderer, task)
    compiler.wait()
    second, third = rendered(renderer, task), rendered(renderer, task)
    assert first.scanlines == second.scanlines == third.scanlines
    assert third.recipe.optimisations is None
    told = [warning for image in (first, second, third) for warning in image.warnings]
    assert [(each.code, each.words) for each in told] == [(WarningCode.OPTIMISATION_LEFT_OUT, ("compiled_blocks",))]
    assert "No working C++ compiler found" in told[0].message
