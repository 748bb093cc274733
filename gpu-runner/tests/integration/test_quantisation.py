"""A request that computes in eight bits: nearly the same image, told by its recipe, and refused where nothing does it.

torchao is an extra: `uv sync --inexact --package dreamforge-gpu-runner --extra torchao`.
"""

import math
import weakref
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from runner_testkit.likeness import psnr_db
from runner_testkit.tasks import LocalLora, changed, render_task, rendered

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.request.values import LoraUse
from dreamforge.gpu_runner.protocol.memory_rungs import Rung
from dreamforge.gpu_runner.protocol.render_task import ModelFiles, RenderTask
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderFailed
from dreamforge.runtime.storage.model_inspection import inspect_model
from dreamforge.runtime.storage.quantised import is_installed

pytestmark = [pytest.mark.torch, pytest.mark.timeout(240)]
#: Our bound for a tiny model of random weights, whose image is noise; 0.4 % of an activation is a step of 8 bits.
PSNR_DB_MIN = 30.0


@pytest.fixture(scope="module")
def renderer() -> Any:  # Any: its module imports torch
    from functools import partial

    from dreamforge.gpu_runner.rendering.compiled_blocks import BlockCompiler
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer
    from dreamforge.gpu_runner.rendering.feature_list import standard_features

    # torch takes the code of blocks apart, and then calls its own operators instead of compiling them.
    features = partial(standard_features, compiler=BlockCompiler(backend="eager"))
    return DiffusersRenderer(device="cpu", dtype="auto", threads=1, features=features)


def task_of(cache: Path, family: str, **values: Any) -> RenderTask:  # Any: whatever a field takes
    from runner_testkit.families import ensure_family

    folder = str(ensure_family(cache, family))
    return render_task(model_id=family, model_path=folder, steps=2, determinism="strict", **values)


@pytest.mark.parametrize("family", ["flux", "sdxl", "sd3"])
def test_an_image_in_int8_is_like_the_exact_one_and_its_recipe_says_so(renderer: Any, cache: Path, family: str) -> None:
    pytest.importorskip("torchao")
    exact = task_of(cache, family)
    quantised = changed(exact, quantisation="int8")
    sizes = [renderer.load(ModelKey.of_task(task))[0] for task in (exact, quantised)]
    assert sizes[1] < sizes[0]
    first, second = rendered(renderer, quantised), rendered(renderer, quantised)
    assert first.scanlines == second.scanlines
    before, tier = rendered(renderer, exact), first.recipe.tier
    assert before.scanlines == rendered(renderer, changed(exact, quantisation="none")).scanlines
    assert PSNR_DB_MIN < psnr_db(first, before) < math.inf
    assert tier is not None
    assert tier.quantised == first.recipe.model_dump()["quantisation"] == "int8"
    assert tier.quantiser is not None
    assert tier.quantiser.startswith("torchao: int8, a scale a row")
    assert first.recipe.versions["torchao"] == version("torchao")
    assert "quantis" not in before.recipe.model_dump_json()
    assert "computes in int8" in renderer.rung_refusals(quantised)[Rung.QUANTISED_WEIGHTS]


def test_quantised_blocks_are_compiled(renderer: Any, cache: Path) -> None:
    pytest.importorskip("torchao")
    quantised = task_of(cache, "flux", quantisation="int8")
    plain, both = (rendered(renderer, changed(quantised, optimisations=names)) for names in (None, "compiled_blocks"))
    assert (both.recipe.optimisations, plain.recipe.optimisations) == ("compiled_blocks", None)
    assert psnr_db(plain, both) > PSNR_DB_MIN
    fused = changed(quantised, optimisations="fused_projections")
    assert "its weights are quantised" in renderer.warnings(fused)[0].message


def test_a_lora_is_seen_beside_quantised_weights_and_leaves_them_as_they_were(renderer: Any, cache: Path) -> None:
    pytest.importorskip("torchao")
    from runner_testkit.assets import ensure_lora

    lora = LocalLora(LoraUse(model_id="lora"), ModelFiles(path=str(ensure_lora(cache, "flux")), digest="1" * 64))
    plain, with_lora = (task_of(cache, "flux", quantisation="int8", loras=loras) for loras in ((), (lora,)))
    before, shown, after = (rendered(renderer, task) for task in (plain, with_lora, plain))
    assert before.scanlines == after.scanlines != shown.scanlines
    exact = rendered(renderer, changed(with_lora, quantisation="none"))
    assert psnr_db(shown, exact) > PSNR_DB_MIN


@pytest.mark.parametrize("family", ["flux", "sdxl", "sd3"])
def test_weights_come_to_a_device_one_layer_at_a_time_and_take_less_there_as_their_files_say(
    cache: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """What placement relies on: at no time a device holds a second layer that is not yet rounded."""
    pytest.importorskip("torchao")
    import torch
    from runner_testkit.families import build_family, ensure_family

    from dreamforge.gpu_runner.rendering import eight_bit_layers
    from dreamforge.gpu_runner.rendering.optimisations import denoisers_of

    (denoiser,) = denoisers_of(build_family(family))
    denoiser.to(torch.bfloat16)
    plain = {name: weakref.ref(weight) for name, weight in denoiser.named_parameters()}
    plain_bytes, alive, to = bytes_of(denoiser), [len(plain)], torch.nn.Module.to

    def counted(module: Any, *arguments: Any, **named: Any) -> Any:
        alive.append(sum(weight() is not None for weight in plain.values()))
        return to(module, *arguments, **named)

    monkeypatch.setattr(torch.nn.Module, "to", counted)
    eight_bit_layers.compute_in_eight_bits(denoiser, "int8", torch.device("cpu", 0), stays=True)
    assert all(before - after in (0, 1) for before, after in pairwise(alive)), "each is given up before the next comes"
    rounded = sum(eight_bit_layers.is_eight_bit(weight) for weight in denoiser.parameters())
    assert alive[0] - alive[-1] == rounded > 10
    assert plain_bytes - bytes_of(denoiser) == inspect_model(ensure_family(cache, family)).eight_bit_saved_bytes


def bytes_of(network: Any) -> int:
    from dreamforge.gpu_runner.rendering.eight_bit_layers import held_bytes

    return sum(held_bytes(tensor) for tensor in (*network.parameters(), *network.buffers()))


@pytest.mark.gpu
@pytest.mark.parametrize("way", ["int8", "float8"])
def test_a_card_computes_in_the_ways_that_it_says(cache: Path, torch_gpu: None, way: str) -> None:
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    card = DiffusersRenderer(device="cuda", dtype="bfloat16", threads=1)
    if why := card.device_report().quantisations[way]:
        pytest.skip(why)
    exact = task_of(cache, "flux")
    assert psnr_db(rendered(card, exact), rendered(card, changed(exact, quantisation=way))) > PSNR_DB_MIN


def test_a_processor_has_no_float8_and_says_what_is_needed(renderer: Any, cache: Path) -> None:
    pytest.importorskip("torchao")
    ways = renderer.device_report().quantisations
    assert (ways["int8"], "8.9 is needed" in ways["float8"]) == ("", True)
    with pytest.raises(RenderFailed, match="cannot compute in float8: a GPU") as raised:
        renderer.load(ModelKey.of_task(task_of(cache, "flux", quantisation="float8")))
    assert raised.value.reason is FailureReason.MODEL_MISSING


def test_a_quantiser_that_is_not_installed_is_told_before_and_when_a_model_is_loaded(
    renderer: Any, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dreamforge.gpu_runner.rendering import eight_bit_layers

    monkeypatch.setattr(eight_bit_layers, "is_installed", lambda method: is_installed(method, lambda module: None))
    said = 'torchao is not installed: install "dreamforge-gpu-runner[torchao]" where the runner is'
    assert renderer.device_report().quantisations == {"int8": said, "float8": said}
    with pytest.raises(RenderFailed, match="torchao is not installed"):
        renderer.load(ModelKey.of_task(task_of(cache, "flux", quantisation="int8")))
