"""The synthetic renderer: deterministic, plainly synthetic, and without torch."""

import subprocess
import sys

from runner_testkit.png import read_recipe
from runner_testkit.tasks import changed, render_task

from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.encode import encode
from dreamforge.gpu_runner.rendering.synthetic import SyntheticRenderer

TASK = render_task(model_id="synthetic", prompt="a red fox", guidance_scale=1.0)


def png(task: RenderTask, seed: int = 1) -> bytes:
    image = SyntheticRenderer().render(task, seed, lambda step, steps: None)
    return encode(image.scanlines, task.output_px, task.request, image.recipe).data


def test_the_same_request_gives_the_same_bytes_and_any_other_gives_others() -> None:
    others = {png(TASK, 2), png(changed(TASK, prompt="x")), png(changed(TASK, steps=5))}
    assert png(TASK) == png(TASK.model_copy(update={"task_id": "another"}))
    assert len({png(TASK), *others}) == 4


def test_it_says_what_it_is() -> None:
    recipe = read_recipe(png(TASK))
    assert (recipe.renderer, recipe.pipeline) == ("synthetic", "synthetic")


def test_it_reports_each_step() -> None:
    steps: list[tuple[int, int]] = []
    SyntheticRenderer().render(TASK, 1, lambda *step: steps.append(step))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_sizes_that_do_not_divide_by_the_cells_work() -> None:
    assert png(changed(TASK, width_px=13, height_px=9)).startswith(b"\x89PNG")


def test_neither_the_bus_side_nor_the_synthetic_child_imports_torch() -> None:
    modules = ("main", "supervisor.supervisor", "worker.process", "worker.task_runner", "rendering.synthetic")
    imports = "; ".join(f"import dreamforge.gpu_runner.{module}" for module in modules)
    heavy = "[name for name in ('torch', 'diffusers', 'transformers', 'numpy') if name in sys.modules]"
    command = f"import sys; {imports}; print({heavy})"
    result = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"
