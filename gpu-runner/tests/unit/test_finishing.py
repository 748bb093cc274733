"""Images are encoded and sent beside the next render: in their order, within a bound of bytes, each task for itself."""

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from runner_testkit.tasks import render_task

from dreamforge.gpu_runner.protocol.messages import Cancelled, Done, Failed, FromChild, Image, StepDone
from dreamforge.gpu_runner.rendering.encode import EncodedImage, encode
from dreamforge.gpu_runner.rendering.synthetic import SyntheticRenderer
from dreamforge.gpu_runner.worker import task_runner
from dreamforge.gpu_runner.worker.finishing import FinishingThread
from dreamforge.gpu_runner.worker.task_runner import TaskRunner

SECONDS = 10.0


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """No image is encoded before this is set."""
    may_encode = threading.Event()

    def waiting(*arguments: object) -> EncodedImage:
        held_until(may_encode)
        return encode(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(task_runner, "encode", waiting)
    yield may_encode
    may_encode.set()


def runner(send: Callable[[FromChild], None], finishing: FinishingThread) -> TaskRunner:
    return TaskRunner(SyntheticRenderer(step_delay_seconds=1e-6), send=send, clock=lambda: 0.0, finishing=finishing)


def test_the_next_task_renders_while_the_images_of_the_last_are_encoded(held: threading.Event) -> None:
    heard: list[FromChild] = []
    finishing = FinishingThread()
    made = runner(heard.append, finishing)
    for name in "ab":
        made.render((render_task(task_id=name, images=2, steps=1),), lambda _: False)
    assert [(each.task_id, each.image_index) for each in heard if isinstance(each, StepDone)] == [
        (name, index) for name in "ab" for index in (0, 1)
    ]
    assert not [each for each in heard if isinstance(each, Image | Done)]
    held.set()
    finishing.flush()
    ends = [(each.task_id, each.kind) for each in heard if isinstance(each, Image | Done)]
    assert ends == [("a", "image"), ("a", "image"), ("a", "done"), ("b", "image"), ("b", "image"), ("b", "done")]


def test_what_was_rendered_before_a_cancel_is_sent_before_its_end(held: threading.Event) -> None:
    heard: list[FromChild] = []
    finishing = FinishingThread()
    steps = 3
    runner(heard.append, finishing).render(
        (render_task(task_id="a", images=4, steps=steps),),
        lambda _: sum(isinstance(each, StepDone) for each in heard) > steps,
    )
    held.set()
    finishing.flush()
    assert [each.kind for each in heard if isinstance(each, Image | Cancelled | Done)] == ["image", "cancelled"]


def test_an_image_that_cannot_be_encoded_fails_its_own_task_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_poison(scanlines: bytes, size_px: tuple[int, int], request: object, recipe: object) -> EncodedImage:
        if getattr(request, "prompt", "") == "poison":
            raise ValueError("no such colour")
        return encode(scanlines, size_px, request, recipe)  # type: ignore[arg-type]

    monkeypatch.setattr(task_runner, "encode", refuse_poison)
    heard: list[FromChild] = []
    finishing = FinishingThread()
    tasks = tuple(render_task(task_id=name, prompt=name, images=2) for name in ("a", "poison", "b"))
    runner(heard.append, finishing).render(tasks, lambda _: False)
    finishing.flush()
    assert {each.task_id: each.kind for each in heard if isinstance(each, Done | Failed | Cancelled)} == {
        "a": "done",
        "poison": "failed",
        "b": "done",
    }
    assert [each.task_id for each in heard if isinstance(each, Image)] == ["a", "a", "b", "b"]
    (failed,) = [each for each in heard if isinstance(each, Failed)]
    assert "no such colour" in failed.message


def held_until(event: threading.Event) -> None:
    assert event.wait(SECONDS)


def test_a_render_waits_while_more_bytes_wait_than_the_bound() -> None:
    finishing, may_run, added = FinishingThread(bound_bytes=100), threading.Event(), threading.Event()
    finishing.add(partial(held_until, may_run), 1_000)  # larger than the bound, and alone

    def add_more() -> None:
        finishing.add(lambda: None, 1)
        added.set()

    adding = threading.Thread(target=add_more)
    adding.start()
    assert not added.wait(0.05)
    may_run.set()
    assert added.wait(SECONDS)
    adding.join()
    finishing.flush()


def test_what_the_work_raises_is_raised_to_the_next_who_adds() -> None:
    def gone() -> None:
        raise BrokenPipeError

    finishing = FinishingThread()
    finishing.add(gone)
    with pytest.raises(BrokenPipeError):
        finishing.flush()
