"""A folder whose transformer is quantised is read and rendered by its quantiser, where that is installed.

They are extras: `uv sync --inexact --package dreamforge-gpu-runner --extra torchao --extra sdnq`. diffusers 0.42.1 has
bitsandbytes quantise on a GPU only.
"""

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from runner_testkit.tasks import render_task

from dreamforge.gpu_runner.protocol.memory_rungs import Rung
from dreamforge.gpu_runner.rendering.renderer import ModelKey, ModelPlacement
from dreamforge.runtime.storage.model_inspection import inspect_model
from dreamforge.runtime.storage.quantised import is_installed

pytestmark = [pytest.mark.torch, pytest.mark.timeout(240)]


def torchao_configuration() -> Any:  # Any: none of these libraries has types
    import diffusers

    quantization: Any = importlib.import_module("torchao.quantization")
    made: Any = diffusers.TorchAoConfig
    return made(quantization.Int8WeightOnlyConfig())


def sdnq_configuration() -> Any:  # Any: as above
    return importlib.import_module("sdnq").SDNQConfig(weights_dtype="int8")


CONFIGURATIONS: dict[str, Callable[[], Any]] = {"torchao": torchao_configuration, "sdnq": sdnq_configuration}


def quantised_folder(cache: Path, tmp_path: Path, method: str) -> Path:
    """A tiny FLUX whose transformer was saved by a quantiser."""
    import diffusers
    import torch
    from runner_testkit.families import ensure_family

    folder = shutil.copytree(ensure_family(cache, "flux"), tmp_path / method)
    read: Any = diffusers.FluxTransformer2DModel.from_pretrained
    transformer = read(str(folder / "transformer"), quantization_config=CONFIGURATIONS[method](), dtype=torch.float32)
    shutil.rmtree(folder / "transformer")
    transformer.save_pretrained(str(folder / "transformer"), safe_serialization=True)
    return folder


@pytest.mark.parametrize("method", CONFIGURATIONS)
def test_a_quantised_transformer_stays_small_and_renders(cache: Path, tmp_path: Path, method: str) -> None:
    pytest.importorskip(method)
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    folder = quantised_folder(cache, tmp_path, method)
    configuration = json.loads((folder / "transformer" / "config.json").read_text())
    assert configuration["quantization_config"]["quant_method"] == method
    facts = inspect_model(folder)
    assert facts.family == "flux"
    assert facts.size.other_bytes > 100_000
    renderer = DiffusersRenderer(device="cpu", dtype="auto", threads=1)
    task = render_task(model_id=method, model_path=str(folder), steps=2)
    renderer.load(ModelKey.of_task(task))
    first, again = (renderer.render(task, 1, lambda step, of, preview: None).scanlines for _ in range(2))
    assert first == again
    assert len(set(first)) > 10


def test_a_plain_model_is_quantised_where_its_request_allows_it_and_the_recipe_says_so(cache: Path) -> None:
    pytest.importorskip("sdnq")
    from runner_testkit.families import ensure_family

    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    renderer = DiffusersRenderer(device="cpu", dtype="float32", threads=1)
    plain = render_task(model_id="flux", model_path=str(ensure_family(cache, "flux")), steps=2)
    tasks = (plain, plain.model_copy(update={"rungs": (Rung.FLOAT8_STORAGE, Rung.QUANTISED_WEIGHTS)}))
    sizes = [renderer.load(ModelKey.of_task(task))[0] for task in tasks]
    assert sizes[1] < sizes[0]
    first, again = (renderer.render(tasks[1], 1, lambda step, of, preview: None) for _ in range(2))
    assert first.scanlines == again.scanlines
    tier = first.recipe.tier
    assert tier is not None
    assert (tier.quantised, tier.float8_storage) == ("uint4", False)
    assert first.recipe.versions["sdnq"] == version("sdnq")
    assert Rung.QUANTISED_WEIGHTS not in renderer.rung_refusals(tasks[1])


def test_a_plain_model_is_not_quantised_without_the_quantiser(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from runner_testkit.families import ensure_family

    from dreamforge.gpu_runner.rendering import quantiser
    from dreamforge.gpu_runner.rendering.features.memory_placement import rung_refusals
    from dreamforge.gpu_runner.rendering.pipeline import read_pipeline

    monkeypatch.setattr(quantiser, "is_installed", lambda method: is_installed(method, lambda module: None))
    pipeline = read_pipeline(ensure_family(cache, "stable-diffusion"), dtype=torch_float32()).pipeline
    why = rung_refusals(pipeline, ModelPlacement())[Rung.QUANTISED_WEIGHTS]
    assert why == 'sdnq is not installed: install "dreamforge-gpu-runner[sdnq]" where the runner is'


def torch_float32() -> Any:  # Any: importing torch costs seconds
    import torch

    return torch.float32


def test_a_quantiser_that_registers_itself_is_imported_with_the_folder(cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("sdnq")
    folder = quantised_folder(cache, tmp_path, "sdnq")
    read = (
        "import sys, torch; from pathlib import Path;"
        "from dreamforge.gpu_runner.rendering.pipeline import read_pipeline;"
        "assert 'sdnq' not in sys.modules; read_pipeline(Path(sys.argv[1]), dtype=torch.float32); print('read')"
    )
    said = subprocess.run([sys.executable, "-c", read, str(folder)], capture_output=True, text=True, check=False)
    assert said.stdout.strip() == "read", said.stderr[-2000:]
