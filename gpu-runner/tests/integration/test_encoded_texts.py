"""Texts are encoded once, and ahead where the next task is known: never with another byte in an image."""

import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from runner_testkit.tasks import render_task

from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.renderer import ModelKey

pytestmark = pytest.mark.torch
FAMILIES = ("stable-diffusion", "flux")
MAIN = threading.main_thread().name


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, torch_installed: None) -> Path:
    from runner_testkit.families import build_family

    folder = tmp_path_factory.mktemp(request.param)
    build_family(request.param).save_pretrained(str(folder), safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def renderer(torch_installed: None) -> Any:  # Any: its module imports torch
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


@pytest.fixture(scope="module")
def plain(torch_installed: None) -> Any:  # Any: as above
    """A renderer that encodes each text when it is needed."""
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer
    from dreamforge.gpu_runner.rendering.feature_list import standard_features
    from dreamforge.gpu_runner.rendering.features.encoded_texts import EncodedTexts

    def features(device: Any) -> Any:  # Any: as above
        return [each for each in standard_features(device) if not isinstance(each, EncodedTexts)]

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1, features=features)


def rendered(renderer: Any, task: RenderTask, on_step: Callable[..., None] = lambda *_: None) -> bytes:
    key = ModelKey.of_task(task)
    if not renderer.is_resident(key):
        renderer.load(key)
    scanlines: bytes = renderer.render(task, task.request.seed, on_step).scanlines
    return scanlines


@pytest.fixture
def encoded_in(renderer: Any, folder: Path) -> Iterator[list[str]]:
    """The threads in which the first text encoder of the model has run since."""
    key = ModelKey.of_task(render_task(model_path=str(folder)))
    if not renderer.is_resident(key):
        renderer.load(key)
    encoder = renderer._pipelines.get(key).text_encoder
    found: list[str] = []
    hook = encoder.register_forward_hook(lambda *_: found.append(threading.current_thread().name))
    yield found
    hook.remove()


def test_the_next_text_is_encoded_beside_the_steps_and_no_byte_is_another(
    renderer: Any, plain: Any, folder: Path, encoded_in: list[str]
) -> None:
    def task(prompt: str) -> RenderTask:
        return render_task(task_id=prompt, model_path=str(folder), prompt=prompt, steps=2)

    first, following, last = (task(prompt) for prompt in ("a red circle", "a blue square", "two green stars"))
    expected = [rendered(plain, each) for each in (first, following, last)]
    assert rendered(renderer, first, lambda *_: renderer.encode_ahead(following)) == expected[0]
    assert set(encoded_in) == {MAIN, "texts-ahead_0"}
    encoded_in.clear()
    assert rendered(renderer, following) == expected[1]
    assert rendered(renderer, first.model_copy(update={"task_id": "again"})) == expected[0]
    assert encoded_in == [], "they were known"
    assert rendered(renderer, last) == expected[2]
    assert set(encoded_in) == {MAIN}, "nobody had said that it comes"


@pytest.mark.parametrize("folder", ["stable-diffusion"], indirect=True)
def test_what_changes_the_encoders_or_the_question_is_encoded_again(
    renderer: Any, plain: Any, folder: Path, encoded_in: list[str]
) -> None:
    def task(**changes: Any) -> RenderTask:
        return render_task(model_path=str(folder), prompt="a fox", steps=2, **changes)

    for changes in ({}, {"clip_skip": 1}, {"guidance_scale": 1.0}, {"negative_prompt": "red"}):
        encoded_in.clear()
        assert rendered(renderer, task(**changes)) == rendered(plain, task(**changes))
        assert encoded_in, changes
    renderer._features.release()
    encoded_in.clear()
    rendered(renderer, task())
    assert encoded_in, "it was let go"


@pytest.mark.parametrize("folder", ["stable-diffusion"], indirect=True)
def test_a_text_that_cannot_be_encoded_ahead_fails_where_it_is_needed_only(
    renderer: Any, folder: Path, encoded_in: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, following = (render_task(model_path=str(folder), prompt=prompt, steps=2) for prompt in ("one", "two"))
    pipeline = renderer._pipelines.get(ModelKey.of_task(first))
    own = type(pipeline).encode_prompt

    @functools.wraps(own)  # with its signature
    def breaks_beside(self: Any, *args: Any, **keywords: Any) -> Any:  # Any: as the pipeline has it
        if threading.current_thread().name != MAIN:
            raise RuntimeError("no memory")
        return own(self, *args, **keywords)

    monkeypatch.setattr(type(pipeline), "encode_prompt", breaks_beside)
    rendered(renderer, first, lambda *_: renderer.encode_ahead(following))
    encoded_in.clear()
    rendered(renderer, following)
    assert encoded_in[:1] == [MAIN]
