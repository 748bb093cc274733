"""A real tiny model, built once, and tasks for it."""

import importlib.util
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from runner_testkit.child import Talk, talking
from runner_testkit.tasks import render_task

from dreamforge.gpu_runner.protocol.child_options import ChildOptions
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.runtime.storage.model_folder import model_digest


@pytest.fixture(scope="session")
def torch_installed() -> None:
    """Fails where torch is missing: a skipped render test would look like a passed one."""
    if importlib.util.find_spec("torch") is None:
        pytest.fail("torch is not installed, and this test renders with it: run `task setup` first")


@pytest.fixture(scope="session")
def torch_gpu(torch_installed: None) -> None:
    """Skips where there is nothing to render on: most machines have no GPU."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU here")


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory, torch_installed: None) -> Path:
    """A models folder with the tiny model, built once for the whole run."""
    from dreamforge.gpu_runner.rendering.tiny_model import ensure_tiny

    folder = tmp_path_factory.mktemp("models")
    ensure_tiny(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_folder(models_dir: Path) -> Path:
    """The tiny model's own folder."""
    (folder,) = models_dir.iterdir()
    return folder


@pytest.fixture(scope="session")
def tiny_task(tiny_folder: Path) -> Callable[..., RenderTask]:
    """Makes tasks for the tiny model, each with an id of its own."""
    digest = model_digest(tiny_folder)
    numbers = itertools.count(1)

    def make(**changes: object) -> RenderTask:
        values: dict[str, object] = {
            "task_id": f"task-{next(numbers)}",
            "model_id": "tiny",
            "model_path": str(tiny_folder),
            "model_digest": digest,
            "prompt": "a red fox under a paper moon",
            "guidance_scale": 5.0,
        }
        return render_task(**values | changes)

    return make


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def talk(torch_installed: None) -> AsyncIterator[Talk]:
    """One child for all tests that only have it render: torch takes seconds to start, and outliving them is a test.

    Their files are in the xdist group "child", so that one test process has it, and on the session's loop. It renders
    on the CPU in float32 everywhere.
    """
    async with talking(ChildOptions(device="cpu", dtype="float32")) as talk:
        yield talk
