"""Tasks that are rendered together end each for itself: done, failed or cancelled."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from runner_testkit.tasks import render_task

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.request.values import Geometry, Upscale
from dreamforge.gpu_runner.protocol.messages import (
    BatchLearnt,
    Cancelled,
    Done,
    Failed,
    FromChild,
    Image,
    Render,
    StepDone,
)
from dreamforge.gpu_runner.protocol.render_task import InputImage, RenderTask, TaskImage
from dreamforge.gpu_runner.rendering.renderer import OnRunStep, OnStep, RenderedImage, RenderFailed
from dreamforge.gpu_runner.rendering.synthetic import SyntheticRenderer
from dreamforge.gpu_runner.worker.connection import Inbox
from dreamforge.gpu_runner.worker.task_runner import TaskRunner

POISON, LOST = "poison", "lost"


class Renderer(SyntheticRenderer):
    """One that cannot render some prompts, and remembers what it ran."""

    def __init__(self, reason: FailureReason = FailureReason.INTERNAL) -> None:
        super().__init__(step_delay_seconds=0.0001)
        self.reason, self.runs, self.told = reason, list[int](), list[str]()

    def render(self, task: RenderTask, seed: int, on_step: OnStep) -> RenderedImage:
        self.runs.append(1)
        self._refuse([task])
        return super().render(task, seed, on_step)

    def render_together(self, images: Sequence[TaskImage], on_step: OnRunStep) -> Sequence[RenderedImage | None]:
        self.runs.append(len(images))
        self._refuse([image.task for image in images])
        rendered = super().render_together(images, on_step)
        return [
            None if image.task.request.prompt == LOST else result
            for image, result in zip(images, rendered, strict=True)
        ]

    def prompt_form(self, task: RenderTask) -> Hashable:
        return task.request.negative_prompt

    def encode_ahead(self, task: RenderTask) -> None:
        self.told.append(task.task_id)

    def _refuse(self, tasks: Sequence[RenderTask]) -> None:
        if any(task.request.prompt == POISON for task in tasks):
            raise RenderFailed(self.reason, "this prompt")


@dataclass
class Heard:
    """What a run of the tasks said."""

    messages: list[FromChild] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)
    on_message: Callable[[FromChild], None] = lambda _: None

    def send(self, message: FromChild) -> None:
        self.messages.append(message)
        self.on_message(message)

    def ends(self) -> dict[str, str]:
        found = [each for each in self.messages if isinstance(each, Done | Failed | Cancelled)]
        assert len({each.task_id for each in found}) == len(found), "a task ends once"
        return {each.task_id: each.kind for each in found}

    def images(self, task_id: str) -> list[Image]:
        return [each for each in self.messages if isinstance(each, Image) and each.task_id == task_id]


def task(name: str, **changes: Any) -> RenderTask:
    return render_task(**{"task_id": name, "prompt": name, "together_max": 16, "steps": 2} | changes)


#: An image that no synthetic renderer reads, and a second pass.
OVER = {"init_image": InputImage(path="/nowhere", sha256="0" * 64), "strength": 0.5}
EDITED = {"references": (OVER["init_image"],)}
UPSCALED = {"upscale": Upscale(width_px=128, height_px=128, strength=0.5)}


def runner(renderer: Renderer, heard: Heard, *, bound: int = 16) -> TaskRunner:
    """One that has learnt to render so many images together."""
    made = TaskRunner(renderer, send=heard.send, clock=lambda: 0.0)
    size = 2
    while size <= bound:
        for _ in range(2):
            for shape in ("model 64x64", "model 64x64 image", "model 128x128 upscale"):
                made._bounds._times.ran(shape, size, 1.0 / size)
        size *= 2
    return made


def run(renderer: Renderer, *tasks: RenderTask, heard: Heard | None = None) -> Heard:
    heard = heard or Heard()
    runner(renderer, heard).render(tasks, heard.cancelled.__contains__)
    return heard


def test_images_of_several_tasks_are_one_run_and_each_has_its_place() -> None:
    renderer = Renderer()
    heard = run(renderer, task("a", images=2), task("b"), task("c", determinism="strict"))
    assert renderer.runs == [3, 1]
    assert heard.ends() == {"a": "done", "b": "done", "c": "done"}
    places = [image.recipe.geometry for name in "abc" for image in heard.images(name)]
    assert places == [*(Geometry(size=3, place=place) for place in range(3)), None]
    steps = [(each.task_id, each.together, each.run_size) for each in heard.messages if isinstance(each, StepDone)]
    assert steps == [("a", 2, 3), ("b", 1, 3)] * 2 + [("c", 1, 1)] * 2


def test_images_of_one_form_of_prompts_are_one_run_whatever_stands_between_them() -> None:
    renderer = Renderer()
    heard = run(renderer, task("a"), task("b", negative_prompt="red"), task("c"), task("d", negative_prompt="red"))
    assert renderer.runs == [2, 2]
    assert set(heard.ends().values()) == {"done"}


def test_an_image_asked_for_in_its_geometry_is_the_same_again() -> None:
    heard = run(Renderer(), task("a", prompt="x", seed=1), task("b", prompt="x", seed=2), task("c", prompt="x", seed=3))
    (before,) = heard.images("b")
    renderer = Renderer()
    again = run(renderer, task("z", prompt="x", seed=2, geometry=Geometry(size=3, place=1)))
    assert renderer.runs == [3]
    assert again.images("z")[0].body == before.body


@pytest.mark.parametrize("way", [{}, OVER, UPSCALED], ids=["text", "image", "upscale"])
def test_a_prompt_that_cannot_be_rendered_fails_alone(way: dict[str, Any]) -> None:
    renderer = Renderer()
    heard = run(renderer, *(task(name, **way) for name in ("a", "b", POISON, "c", "d")))
    assert heard.ends() == {"a": "done", "b": "done", POISON: "failed", "c": "done", "d": "done"}
    assert renderer.runs == [5, 2, 3, 1, 2]


def test_what_the_steps_of_one_kind_take_says_nothing_of_another() -> None:
    ways: list[dict[str, Any]] = [{}, UPSCALED, OVER, EDITED]
    heard = run(Renderer(), *(task(f"t{number}", images=2, **way) for number, way in enumerate(ways)))
    learnt = [(each.shape, each.work) for each in heard.messages if isinstance(each, BatchLearnt)]
    kinds = [("64x64", ""), ("128x128", "upscale"), ("64x64", "image"), ("64x64", "references 1")]
    assert learnt == [(f"model {size}", work) for size, work in kinds]


def test_a_new_worker_goes_on_with_what_was_learnt() -> None:
    renderer, heard = Renderer(), Heard()
    known = {2: 0.5, 4: 0.25, 8: 0.24}
    TaskRunner(renderer, send=heard.send, clock=lambda: 0.0).render(
        [task("a", images=6, batch_seconds=known)], lambda _: False
    )
    assert renderer.runs == [4, 2]


def test_the_end_of_the_device_is_the_end_of_all_that_is_left() -> None:
    renderer, heard = Renderer(FailureReason.CHILD_CRASHED), Heard()
    tasks = (task("a", images=16), task("b"), task(POISON))
    assert runner(renderer, heard).render(tasks, lambda _: False) is FailureReason.CHILD_CRASHED
    assert heard.ends() == {"a": "done", "b": "failed", POISON: "failed"}


def test_what_does_not_fit_into_memory_is_halved_and_remembered() -> None:
    renderer, heard = Renderer(FailureReason.OUT_OF_MEMORY), Heard()
    worker = runner(renderer, heard)
    worker.render((task(POISON), *(task(f"t{number}") for number in range(7))), lambda _: False)
    assert renderer.runs == [8, 4, 2, 1, 1, 2, 4]
    assert next(each.bound for each in heard.messages if isinstance(each, BatchLearnt)) == 4
    assert heard.ends()[POISON] == "failed"


def test_an_image_that_comes_out_empty_is_rendered_alone() -> None:
    renderer = Renderer()
    heard = run(renderer, task("a"), task(LOST), task("b"))
    assert renderer.runs == [3, 1]
    assert heard.images(LOST)[0].recipe.geometry is None
    assert set(heard.ends().values()) == {"done"}


def test_a_cancelled_task_ends_at_the_next_step_and_changes_nothing_beside_it() -> None:
    heard, renderer = Heard(), Renderer()
    heard.on_message = lambda message: heard.cancelled.add("b") if isinstance(message, StepDone) else None
    run(renderer, task("a"), task("b"), task("c"), heard=heard)
    assert heard.ends() == {"b": "cancelled", "a": "done", "c": "done"}
    assert heard.images("b") == []
    assert heard.images("c")[0].recipe.geometry == Geometry(size=3, place=2)
    assert heard.images("c")[0].body == run(Renderer(), task("a"), task("b"), task("c")).images("c")[0].body


def test_a_run_of_which_every_task_is_cancelled_stops() -> None:
    heard, renderer = Heard(), Renderer()
    heard.on_message = lambda message: heard.cancelled.update("ab") if isinstance(message, StepDone) else None
    run(renderer, task("a", steps=500, images=2), task("b", steps=500, images=2), heard=heard)
    assert heard.ends() == {"a": "cancelled", "b": "cancelled"}
    assert len([each for each in heard.messages if isinstance(each, StepDone)]) == 2


def test_a_task_without_a_bound_is_rendered_image_by_image() -> None:
    renderer = Renderer()
    heard = run(renderer, task("a", images=3, together_max=1))
    assert renderer.runs == [1, 1, 1]
    assert not [each for each in heard.messages if isinstance(each, BatchLearnt)]


def test_the_renderer_is_told_once_of_the_next_task_of_this_message_or_of_the_next() -> None:
    renderer, inbox = Renderer(), Inbox()
    inbox.deliver(Render(tasks=(task("c"),)))
    made = TaskRunner(renderer, send=lambda _: None, clock=lambda: 0.0, upcoming=inbox.upcoming)
    made.render([task("a", determinism="strict", images=2), task("b", determinism="strict")], lambda _: False)
    assert renderer.told == ["a", "b", "c"]
    assert inbox.next() == Render(tasks=(task("c"),)), "it is still to be done"
    made.render([task("c")], lambda _: False)
    assert renderer.told == ["a", "b", "c"], "nothing is known to come"
