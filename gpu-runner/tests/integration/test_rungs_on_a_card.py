"""Each rung of the memory ladder takes less of a card than the way before it, and gives the pixels that it promises.

On a pretended card everywhere, and on the real one by `task test:gpu`: there layers come and go on streams, from pinned
memory, and 8-bit kernels are the card's own.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from runner_testkit.likeness import psnr_db
from runner_testkit.tasks import render_task, rendered

from dreamforge.gpu_runner.protocol.memory_rungs import Rung
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.renderer import RenderedImage
from dreamforge.runtime.storage.quantised import is_installed

pytestmark = [pytest.mark.torch, pytest.mark.timeout(240)]
#: Larger than a tile of the tiny autoencoder.
SIDE_PX = 128
M, G, T = Rung.OFFLOAD_MODEL, Rung.OFFLOAD_GROUP, Rung.TILED_DECODE
F8, Q = Rung.FLOAT8_STORAGE, Rung.QUANTISED_WEIGHTS


@dataclass(frozen=True, slots=True)
class Step:
    """From one way to hold a model to the next."""

    before: tuple[Rung, ...]
    after: tuple[Rung, ...]
    #: Least likeness of both images; infinite: they have the same bytes. Our bounds, for noise of random weights.
    psnr_db_min: float


#: A rung is compared with a way in which what it makes smaller is the peak.
STEPS = {
    Rung.OFFLOAD_MODEL: Step((), (M,), math.inf),
    Rung.OFFLOAD_GROUP: Step((M,), (M, G), math.inf),
    Rung.TILED_DECODE: Step((), (T,), 20.0),
    Rung.FLOAT8_STORAGE: Step((T,), (T, F8), 20.0),
    Rung.QUANTISED_WEIGHTS: Step((T, F8), (T, Q), 5.0),
}
#: An image, and the most bytes that the card held while it was rendered by a renderer that holds no other model.
Shown = Callable[[RenderTask], tuple[RenderedImage, int]]


def on_a_pretended_card(task: RenderTask) -> tuple[RenderedImage, int]:
    from runner_testkit.pretend_card import CardMemory, PretendCard, card_renderer

    card = PretendCard()
    memory = CardMemory(card)
    renderer = card_renderer(memory)
    with card:
        image = rendered(renderer, task)
    return image, memory.peaks[-1]


def on_the_card(task: RenderTask, dtype: str = "float32") -> tuple[RenderedImage, int]:
    import gc

    import torch

    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    gc.collect()
    torch.cuda.empty_cache()
    renderer = DiffusersRenderer(device="cuda", dtype=dtype, threads=1)
    rendered(renderer, task)  # libraries take memory of their own at their first call
    torch.cuda.reset_peak_memory_stats()
    held_bytes = torch.cuda.memory_allocated()
    image = rendered(renderer, task)
    peak_bytes = torch.cuda.max_memory_allocated()
    assert peak_bytes > held_bytes
    return image, peak_bytes


def task_of(cache: Path, family: str = "stable-diffusion", **values: Any) -> RenderTask:
    from runner_testkit.families import ensure_family

    size = {"width_px": SIDE_PX, "height_px": SIDE_PX}
    return render_task(model_id=family, model_path=str(ensure_family(cache, family)), steps=2, **size | values)


def check(step: Step, cache: Path, shown: Shown) -> None:
    allowed = {"allow_quantised": "uint4"} if Q in step.after else {}
    (before, more_bytes), (after, less_bytes) = (
        shown(task_of(cache, rungs=rungs, **allowed)) for rungs in (step.before, step.after)
    )
    assert less_bytes < more_bytes
    assert psnr_db(before, after, SIDE_PX) >= step.psnr_db_min
    again, _ = shown(task_of(cache, rungs=step.after, **allowed))
    assert again.scanlines == after.scanlines


def skip_without_quantiser(rung: Rung) -> None:
    if rung is Q and not is_installed("sdnq"):
        pytest.skip("SDNQ is not installed")


def test_every_rung_that_holds_a_model_otherwise_is_a_step() -> None:
    assert STEPS.keys() == frozenset(Rung) - {Rung.RELEASE, Rung.SMALLER_BATCH}


@pytest.mark.parametrize("rung", [M, G, T, F8])
def test_a_rung_takes_less_of_a_pretended_card_and_keeps_its_promise(cache: Path, rung: Rung) -> None:
    check(STEPS[rung], cache, on_a_pretended_card)


@pytest.mark.gpu
@pytest.mark.parametrize("rung", list(STEPS))
def test_a_rung_takes_less_of_a_card_and_keeps_its_promise(cache: Path, torch_gpu: None, rung: Rung) -> None:
    skip_without_quantiser(rung)
    check(STEPS[rung], cache, on_the_card)


@pytest.mark.gpu
@pytest.mark.parametrize("way", ["int8", "float8"])
def test_eight_bits_take_less_of_a_card(cache: Path, torch_gpu: None, way: str) -> None:
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    if why := DiffusersRenderer(device="cuda", dtype="bfloat16", threads=1).device_report().quantisations[way]:
        pytest.skip(why)
    shown = partial(on_the_card, dtype="bfloat16")
    exact, more_bytes = shown(task_of(cache, "flux", determinism="strict"))
    other, less_bytes = shown(task_of(cache, "flux", determinism="strict", quantisation=way))
    assert less_bytes < more_bytes
    assert 20.0 <= psnr_db(exact, other, SIDE_PX) < math.inf
