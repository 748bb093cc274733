"""What is tried when a render runs out of memory, in which order, and what is kept of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from runner_testkit.tasks import render_task

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.memory_rungs import HELD_RUNGS, Held, Rung
from dreamforge.gpu_runner.protocol.messages import (
    BatchLearnt,
    Done,
    Failed,
    FromChild,
    MemoryObserved,
    RungsLearnt,
    Unloaded,
    Warned,
)
from dreamforge.gpu_runner.protocol.render_task import RenderTask, TaskImage
from dreamforge.gpu_runner.rendering.renderer import OnRunStep, OnStep, RenderedImage, RenderFailed
from dreamforge.gpu_runner.rendering.synthetic import SyntheticRenderer
from dreamforge.gpu_runner.worker.memory_ladder import LadderState, next_rung
from dreamforge.gpu_runner.worker.memory_rungs_taken import WORDS
from dreamforge.gpu_runner.worker.open_tasks import MAX_MESSAGE_CHARS
from dreamforge.gpu_runner.worker.task_runner import TaskRunner

FULL = RenderFailed(FailureReason.OUT_OF_MEMORY, "Tried to allocate 2 GiB. 1 GiB is free.")

NOT_INSTALLED = 'sdnq is not installed: install "dreamforge-gpu-runner[sdnq]" where the runner is'


def climbed(state: LadderState) -> list[Rung]:
    """Every rung, each after a failure with the ones before."""
    taken: list[Rung] = []
    while (rung := next_rung(state).rung) is not None:
        taken.append(rung)
        batch = state.batch // 2 if rung is Rung.SMALLER_BATCH else state.batch
        held = state.held.after([rung])
        state = LadderState(batch, held, False, state.strict, state.quantised_allowed, state.refusals)
    return taken


def test_each_rung_is_taken_in_its_order_and_then_there_is_none() -> None:
    state = LadderState(batch=2, held=Held(), others_left=True, quantised_allowed=True)
    assert climbed(state) == list(Rung)


def test_a_rung_that_cannot_help_is_left_out_with_the_reason() -> None:
    full = {Rung.OFFLOAD_MODEL: "the host's memory is full", Rung.OFFLOAD_GROUP: "the host's memory is full"}
    state = LadderState(batch=1, held=Held(vae_tiling=True), strict=True, refusals=full)
    found = next_rung(state)
    assert found.rung is None
    assert [rung for rung, _ in found.skipped] == list(Rung)
    assert "offload_model, offload_group: the host's memory is full" in found.reasons
    assert "determinism is strict" in found.reasons
    assert climbed(LadderState(batch=1, held=Held(offload="sequential"))) == [Rung.TILED_DECODE, Rung.FLOAT8_STORAGE]


class Tight(SyntheticRenderer):
    """A device on which a shape needs these rungs, and so many images at most."""

    def __init__(self, *needed: Rung, most: int = 16, refused: Sequence[Rung] = (), released: tuple[str, ...] = ()):
        super().__init__()
        self.needed, self.most, self.refused, self.released = set(needed), most, refused, released
        self.runs: list[tuple[int, tuple[Rung, ...]]] = []

    def rung_refusals(self, task: RenderTask) -> Mapping[Rung, str]:
        found = dict.fromkeys(self.refused, "refused")
        return found | ({Rung.QUANTISED_WEIGHTS: NOT_INSTALLED} if Rung.QUANTISED_WEIGHTS in found else {})

    def render(self, task: RenderTask, seed: int, on_step: OnStep) -> RenderedImage:
        self._run([task])
        return super().render(task, seed, on_step)

    def render_together(self, images: Sequence[TaskImage], on_step: OnRunStep) -> Sequence[RenderedImage | None]:
        self._run([image.task for image in images])
        return super().render_together(images, on_step)

    def _run(self, tasks: Sequence[RenderTask]) -> None:
        self.runs.append((len(tasks), tasks[0].rungs))
        assert len({task.rungs for task in tasks}) == 1
        if tasks[0].request.prompt == "huge" or len(tasks) > self.most or not self.needed <= {*tasks[0].rungs}:
            released, self.released = self.released, ()
            raise RenderFailed(FULL.reason, FULL.message, released)


def run(renderer: Tight, *tasks: RenderTask, worker: TaskRunner | None = None) -> list[FromChild]:
    heard: list[FromChild] = []
    worker = worker or TaskRunner(renderer, send=heard.append, clock=lambda: 0.0)
    worker.render(tasks, lambda _: False)
    return heard


def warned(heard: list[FromChild]) -> list[str]:
    return [each.code.value for each in heard if isinstance(each, Warned)]


def test_a_render_that_does_not_fit_goes_on_with_each_rung_and_says_so_with_numbers() -> None:
    renderer = Tight(Rung.OFFLOAD_GROUP)
    heard = run(renderer, render_task())
    assert [rungs for _, rungs in renderer.runs] == [
        (), (Rung.OFFLOAD_MODEL,), (Rung.OFFLOAD_MODEL, Rung.OFFLOAD_GROUP),
    ]  # fmt: skip
    assert warned(heard) == ["memory_offload_model", "memory_offload_group"]
    message = next(each.message for each in heard if isinstance(each, Warned))
    assert "Tried to allocate 2 GiB. 1 GiB is free." in message
    assert "peak so far" in message
    assert isinstance(heard[-1], Done)


def test_a_rung_and_every_reason_are_told_beside_a_failure_of_any_length() -> None:
    class Wordy(Tight):
        def rung_refusals(self, task: RenderTask) -> Mapping[Rung, str]:
            return dict.fromkeys((Rung.OFFLOAD_MODEL, Rung.OFFLOAD_GROUP, Rung.TILED_DECODE), "the host is full")

        def _run(self, tasks: Sequence[RenderTask]) -> None:
            if Rung.FLOAT8_STORAGE not in tasks[0].rungs:
                raise RenderFailed(FULL.reason, FULL.message + " word" * 1000 + " the end")

    (message,) = [each.message for each in run(Wordy(), render_task()) if isinstance(each, Warned)]
    assert len(message) <= MAX_MESSAGE_CHARS
    assert "Tried to allocate 2 GiB" in message
    assert "the end; peak so far" in message
    assert WORDS[Rung.FLOAT8_STORAGE] in message
    reasons = "offload_model, offload_group, tiled_decode: the host is full"
    assert message.endswith(f"{reasons})")
    (failed,) = [each for each in run(Wordy(), render_task(determinism="strict")) if isinstance(each, Failed)]
    assert "Tried to allocate 2 GiB" in failed.message
    assert (
        f"nothing is left to try (release: no other model was in memory; smaller_batch: it is one image; {reasons}; "
        in (failed.message)
    )
    assert failed.message.endswith("it changes pixels, and determinism is strict)")


def test_the_next_task_of_the_shape_begins_on_the_rung_that_worked() -> None:
    renderer, heard = Tight(Rung.TILED_DECODE), list[FromChild]()
    worker = TaskRunner(renderer, send=heard.append, clock=lambda: 0.0)
    run(renderer, render_task(task_id="a"), worker=worker)
    (learnt,) = {each.rungs for each in heard if isinstance(each, RungsLearnt)}
    before = len(renderer.runs)
    run(renderer, render_task(task_id="b"), worker=worker)
    assert [rungs for _, rungs in renderer.runs[before:]] == [learnt]
    # Another child of this runner is told by the supervisor.
    again = Tight(Rung.TILED_DECODE)
    run(again, render_task(task_id="c", rungs=learnt))
    assert [rungs for _, rungs in again.runs] == [learnt]
    # Another size has no such need, as far as is known.
    run(renderer, render_task(task_id="d", width_px=128), worker=worker)
    assert renderer.runs[before + 1][1] == ()


def test_what_changes_pixels_is_not_used_for_a_strict_task_although_it_was_learnt() -> None:
    renderer = Tight(refused=(Rung.OFFLOAD_MODEL, Rung.OFFLOAD_GROUP))
    run(renderer, render_task(determinism="strict", rungs=(Rung.TILED_DECODE, Rung.FLOAT8_STORAGE)))
    assert renderer.runs == [(1, (Rung.TILED_DECODE,))]


def test_a_seamless_image_is_decoded_whole_although_others_of_its_shape_need_tiles() -> None:
    renderer = Tight()
    run(renderer, render_task(seamless="both", rungs=(Rung.TILED_DECODE,)))
    run(renderer, render_task(rungs=(Rung.TILED_DECODE,)))
    assert renderer.runs == [(1, ()), (1, (Rung.TILED_DECODE,))]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({}, "neither the request nor its preset allows it"),
        ({"allow_quantised": "none"}, "neither the request nor its preset allows it"),
        ({"allow_quantised": "uint4", "determinism": "strict"}, "it changes pixels, and determinism is strict"),
        ({"allow_quantised": "uint4"}, NOT_INSTALLED),
    ],
)
def test_weights_are_quantised_only_where_that_is_allowed_and_can_be_done(changes: dict[str, Any], why: str) -> None:
    renderer = Tight(refused=tuple(HELD_RUNGS))
    learnt = () if why == NOT_INSTALLED else (Rung.QUANTISED_WEIGHTS,)
    heard = run(renderer, render_task(prompt="huge", rungs=learnt, **changes))
    assert renderer.runs == [(1, ())]
    (failed,) = [each for each in heard if isinstance(each, Failed)]
    assert f"quantised_weights: {why}" in failed.message
    # That it was allowed and could not be done is a warning of its own; another runner may be able to.
    told = [each.message for each in heard if isinstance(each, Warned) and each.code == "memory_not_quantised"]
    assert [why in each for each in told] == ([True] if why == NOT_INSTALLED else [])


def test_quantised_weights_are_the_last_rung_and_replace_8_bit_floats() -> None:
    refused = (Rung.OFFLOAD_MODEL, Rung.OFFLOAD_GROUP, Rung.TILED_DECODE)
    renderer = Tight(Rung.QUANTISED_WEIGHTS, refused=refused)
    heard = run(renderer, render_task(allow_quantised="uint4"))
    taken = (Rung.FLOAT8_STORAGE, Rung.QUANTISED_WEIGHTS)
    assert [rungs for _, rungs in renderer.runs] == [(), taken[:1], taken]
    assert warned(heard) == ["memory_float8_storage", "memory_quantised_weights"]
    assert Held().after(taken) == Held(quantised="uint4")


def test_weights_that_a_request_computes_with_are_not_quantised_otherwise_and_are_no_measure_of_plain_ones() -> None:
    learnt, wanted = (Rung.TILED_DECODE, Rung.FLOAT8_STORAGE, Rung.QUANTISED_WEIGHTS), {"quantisation": "int8"}
    renderer = Measured()
    heard = run(renderer, render_task(rungs=learnt, allow_quantised="uint4", **wanted))
    assert Held(quantised="int8").after([Rung.FLOAT8_STORAGE]) == Held(quantised="int8")
    assert renderer.runs == [(1, (Rung.TILED_DECODE, Rung.FLOAT8_STORAGE))]
    assert {each.shape for each in observed(heard)} == {"model 64x64 int8"}
    assert render_task(**wanted).held == Held(quantised="int8")


def test_at_the_end_of_the_ladder_one_failure_with_the_numbers_and_the_neighbours_are_unharmed() -> None:
    renderer = Tight(refused=tuple(HELD_RUNGS))
    huge = render_task(task_id="huge", prompt="huge")
    heard = run(renderer, huge, render_task(task_id="beside"))
    (failed,) = [each for each in heard if isinstance(each, Failed)]
    assert failed.task_id == "huge"
    assert failed.reason is FailureReason.OUT_OF_MEMORY
    assert failed.retryable
    assert "Tried to allocate 2 GiB" in failed.message
    assert "offload_model, offload_group, tiled_decode, float8_storage: refused" in failed.message
    assert [each.task_id for each in heard if isinstance(each, Done)] == ["beside"]


def test_a_smaller_batch_comes_before_any_other_placement_and_is_told_once() -> None:
    renderer = Tight(most=1)
    tasks = [render_task(task_id=name, together_max=2) for name in "abcd"]
    heard = run(renderer, *tasks)
    assert {size for size, _ in renderer.runs} <= {1, 2}
    assert {rungs for _, rungs in renderer.runs} == {()}
    assert set(warned(heard)) == {"memory_smaller_batch"}
    assert [each.fits for each in heard if isinstance(each, BatchLearnt)][-1] == 1


def test_models_that_left_are_reported_and_the_same_run_is_tried_once_more() -> None:
    renderer = Tight(released=("other", "model"), most=0)
    heard = run(renderer, render_task(), worker=None)
    assert [each.model_id for each in heard if isinstance(each, Unloaded)] == ["other", "model"]
    assert warned(heard)[0] == "memory_released"
    assert renderer.runs[:2] == [(1, ()), (1, ())]


class Measured(Tight):
    """A device that measures: each run takes 7 bytes an image."""

    def run_peak_bytes(self, task: RenderTask) -> int | None:
        return 7 * self.runs[-1][0]


def observed(heard: list[FromChild]) -> list[MemoryObserved]:
    return [each for each in heard if isinstance(each, MemoryObserved)]


def test_the_peak_of_each_run_is_told_with_how_many_images_it_had() -> None:
    told = observed(run(Measured(), render_task(model_id="m")))
    assert told == [MemoryObserved(shape="m 64x64", peak_bytes=7)]
    pair = [render_task(task_id=name, model_id="m", together_max=2) for name in "ab"]
    renderer = Measured()
    assert observed(run(renderer, *pair)) == [MemoryObserved(shape="m 64x64", peak_bytes=14, images=2)]
    assert renderer.runs == [(2, ())]


def test_the_peak_of_a_run_in_eight_bits_is_told_apart() -> None:
    told = observed(run(Measured(), render_task(model_id="m", quantisation="int8")))
    assert told == [MemoryObserved(shape="m 64x64 int8", peak_bytes=7)]


def test_the_end_of_the_ladder_is_told_and_that_it_is_over_once_an_image_fits() -> None:
    renderer, heard = Tight(refused=tuple(HELD_RUNGS)), list[FromChild]()
    worker = TaskRunner(renderer, send=heard.append, clock=lambda: 0.0)
    for prompt in ("huge", "small", "small"):
        run(renderer, render_task(model_id="m", prompt=prompt), worker=worker)
    shape = "m 64x64"
    assert observed(heard) == [MemoryObserved(shape=shape, exhausted=True), MemoryObserved(shape=shape)]
