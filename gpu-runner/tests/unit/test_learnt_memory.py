"""What was learnt of memory outlives the runner, and no more than it should."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

from runner_testkit.tasks import render_task

from dreamforge.contracts.events import Decision, JobAssigned
from dreamforge.contracts.measured_times import SHAPES_MAX, MeasuredTimes
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.gpu_runner.protocol.memory_rungs import Rung
from dreamforge.gpu_runner.protocol.messages import BatchLearnt, MemoryObserved, RungsLearnt
from dreamforge.gpu_runner.supervisor.input_cache import InputCache
from dreamforge.gpu_runner.supervisor.learnt_memory import EXHAUSTED_KEPT, KEPT, LearntMemory
from dreamforge.gpu_runner.supervisor.local_models import LocalModel
from dreamforge.gpu_runner.supervisor.render_tasks import RenderTaskFactory

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TILED = RungsLearnt(shape="m 64x64", rungs=(Rung.TILED_DECODE,), peak_bytes=7)

ASSIGNED = JobAssigned(
    at=NOW,
    attempt=1,
    runner_id="r",
    instance_id="i",
    preset="p",
    estimated_vram_bytes=0,
    decision=Decision(waited_seconds=0, effective_priority=5, queue_length=0, required_bytes=0, candidates=()),
)


def opened(path: Path, device: str = "GPU", now: datetime = NOW) -> LearntMemory:
    memory = LearntMemory(path, now=lambda: now)
    memory.open(device)
    return memory


def test_a_runner_that_starts_again_knows_rungs_and_bounds(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.json"
    first = opened(path)
    first.learn(TILED)
    first.learn(BatchLearnt(shape=TILED.shape, bound=2, seconds={}, fits=3))
    opened(path).learn(BatchLearnt(shape=TILED.shape, bound=2, seconds={}))  # of a child that has not failed
    known = opened(path).of(TILED.shape)
    assert (known.rungs, known.peak_bytes, known.fits) == (TILED.rungs, 7, 3)
    assert opened(path).batch_bounds(16) == {TILED.shape: 2}
    assert opened(path).of("m 128x128").rungs == ()


def test_another_device_and_a_later_week_begin_anew(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    opened(path).learn(TILED)
    assert opened(path, "another GPU").of(TILED.shape).rungs == ()
    assert opened(path, now=NOW + KEPT - timedelta(seconds=1)).of(TILED.shape).rungs == TILED.rungs
    assert opened(path, now=NOW + KEPT).of(TILED.shape).rungs == ()


def test_times_are_kept_where_they_have_moved_by_more_than_noise(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    first, noise, slower = (MeasuredTimes(steps={TILED.shape: {1: each}}) for each in (1.0, 1.1, 1.3))
    memory = opened(path)
    for measured, kept in ((first, first), (noise, first), (slower, slower)):
        memory.keep_times(measured)
        assert opened(path).times == kept
    memory.learn(TILED)
    assert opened(path).times == slower, "what is learnt of memory leaves them"
    assert opened(path, "another GPU").times == opened(path, now=NOW + KEPT).times == MeasuredTimes()


def test_a_file_that_is_broken_is_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text('{"device": "GPU", "shapes": {"m 64x64": {"rungs": ["prayer"]}}}')
    memory = opened(path)
    assert memory.of(TILED.shape).rungs == ()
    memory.learn(TILED)
    assert opened(path).of(TILED.shape).rungs == TILED.rungs


def test_the_shape_that_was_learnt_longest_ago_is_forgotten_first(tmp_path: Path) -> None:
    memory = opened(tmp_path / "r.json")
    for number in range(SHAPES_MAX + 1):
        memory.learn(TILED.model_copy(update={"shape": str(number)}))
    assert memory.of("0").rungs == ()
    assert memory.of("1").rungs == memory.of(str(SHAPES_MAX)).rungs == TILED.rungs


def test_how_many_images_go_together_is_known_after_a_restart_and_told_once(tmp_path: Path) -> None:
    memory, learnt = opened(path := tmp_path / "r.json"), BatchLearnt(shape="m 64x64", bound=4, seconds={2: 0.5})
    assert memory.learn(learnt), "heartbeats say something else"
    assert not memory.learn(learnt.model_copy(update={"seconds": {2: 0.4}})), "a faster run of the same size"
    assert not memory.learn(learnt.model_copy(update={"seconds": {2: 0.4, 4: 0.3}})), (
        "only the runner's next child asks"
    )
    assert memory.learn(learnt.model_copy(update={"work": "upscale", "bound": 8}))
    again = opened(path)
    assert again.batch_bounds(16) == {"m 64x64": 8}
    assert again.batch_bounds(1) == {"m 64x64": 1}, "rendering together is turned off since then"
    assert again.of("m 64x64").batch_seconds("") == {2: 0.4, 4: 0.3}
    assert again.of("m 64x64").batch_seconds("image") == {}
    assert opened(path, now=NOW + KEPT).batch_bounds(16) == {}


DESCRIPTOR = ModelDescriptor(
    model_id="m",
    family="f",
    digest="0" * 64,
    vram=VramProfile(resident_bytes=1, denoise_bytes_per_latent=0, decode_bytes_per_px=0),
    presets=(Preset(name="p", width_px=64, height_px=64, steps=1, guidance_scale=0),),
)


async def test_a_task_begins_with_what_was_learnt_of_its_shape(tmp_path: Path) -> None:
    memory = opened(tmp_path / "r.json")
    request, other = render_task(model_id="m").request, render_task(model_id="m", width_px=128).request
    memory.learn(TILED)
    memory.learn(BatchLearnt(shape=TILED.shape, bound=2, seconds={2: 0.5}, fits=3))
    models, inputs = {"m": LocalModel(DESCRIPTOR, tmp_path)}, cast(InputCache, None)  # no image is fetched
    factory = RenderTaskFactory(models, inputs, batch_max=8, budget_bytes=lambda: 2**30, learnt=memory)
    task, fresh = [await factory.task_for("t", each, ASSIGNED, (0,)) for each in (request, other)]
    assert (task.rungs, task.together_max, task.batch_seconds) == (TILED.rungs, 3, {2: 0.5})
    assert (fresh.rungs, fresh.together_max, fresh.batch_seconds) == ((), 8, {})


def peak(peak_bytes: int, tier: str = "") -> MemoryObserved:
    return MemoryObserved(shape=TILED.shape, tier=tier, peak_bytes=peak_bytes)


def test_the_highest_peak_of_a_tier_is_kept_over_a_restart_and_told(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    memory = opened(path)
    for message in (peak(30), peak(20), peak(5, "small")):
        memory.learn(message)
    assert opened(path).observed.peaks == {TILED.shape: {"": 30, "small": 5}}
    assert opened(path).observed.peak_bytes(TILED.shape, "small") == 5


def test_what_each_further_image_takes_is_the_steepest_rise_between_two_sizes(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    memory = opened(path)

    def run(images: int, peak_bytes: int) -> dict[str, dict[str, int]]:
        memory.learn(MemoryObserved(shape=TILED.shape, peak_bytes=peak_bytes, images=images))
        return memory.observed.further

    assert run(4, 160) == {}
    assert memory.observed.peaks == {}, "one of four alone was never seen"
    assert run(1, 100) == {TILED.shape: {"": 20}}
    assert run(2, 131) == {TILED.shape: {"": 31}}
    assert run(1, 90) == opened(path).observed.further == {TILED.shape: {"": 31}}
    memory.learn(TILED)  # held in another way from now on
    assert memory.observed.further == {}


async def test_as_many_images_go_together_as_were_seen_to_fit(tmp_path: Path) -> None:
    memory = opened(tmp_path / "r.json")
    request = render_task(model_id="m").request
    models, inputs = {"m": LocalModel(DESCRIPTOR, tmp_path)}, cast(InputCache, None)  # no image is fetched
    factory = RenderTaskFactory(models, inputs, batch_max=8, budget_bytes=lambda: 1000, learnt=memory)
    assert (await factory.task_for("t", request, ASSIGNED, (0,))).together_max == 8, "as estimated"
    for images, peak_bytes in ((1, 400), (2, 560)):
        memory.learn(MemoryObserved(shape=TILED.shape, peak_bytes=peak_bytes, images=images))
    # 400 bytes, and a sixteenth more than 160 for each further one.
    assert (await factory.task_for("t", request, ASSIGNED, (0,))).together_max == 4


async def test_as_many_images_in_eight_bits_go_together_as_were_seen_to_fit_so_and_else_as_plain_ones(
    tmp_path: Path,
) -> None:
    memory = opened(tmp_path / "r.json")
    request = render_task(model_id="m", quantisation="int8").request
    models, inputs = {"m": LocalModel(DESCRIPTOR, tmp_path)}, cast(InputCache, None)  # no image is fetched
    factory = RenderTaskFactory(models, inputs, batch_max=8, budget_bytes=lambda: 1000, learnt=memory)
    for shape, further_bytes, together in ((TILED.shape, 160, 4), (f"{TILED.shape} int8", 80, 8)):
        for images in (1, 2):
            peak_bytes = 400 + (images - 1) * further_bytes
            memory.learn(MemoryObserved(shape=shape, peak_bytes=peak_bytes, images=images))
        assert (await factory.task_for("t", request, ASSIGNED, (0,))).together_max == together


def test_a_peak_counts_for_the_rungs_that_it_was_seen_with(tmp_path: Path) -> None:
    memory = opened(tmp_path / "r.json")
    for message in (peak(30), TILED, peak(10), TILED):
        memory.learn(message)
    assert memory.observed.peaks == {TILED.shape: {"": 10}}
    assert memory.observed.rungs == {TILED.shape: ("tiled_decode",)}


def test_a_shape_that_no_rung_made_fit_is_told_until_it_fits_or_for_an_hour(tmp_path: Path) -> None:
    path, full = tmp_path / "r.json", MemoryObserved(shape=TILED.shape, exhausted=True)
    opened(path).learn(full)
    assert opened(path).observed.exhausted == (TILED.shape,)
    assert opened(path, now=NOW + EXHAUSTED_KEPT).observed.exhausted == ()
    memory = opened(path)
    memory.learn(MemoryObserved(shape=TILED.shape))
    assert memory.observed.exhausted == ()
