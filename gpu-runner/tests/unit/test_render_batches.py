"""Every image is in exactly one batch, only with those that it can be rendered with, in order and within bounds."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runner_testkit.tasks import render_task

from dreamforge.contracts.request.batch_key import BYTES_A_BLOCK, MAY_DIFFER, batch_key
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.request.values import ControlUse, Geometry, ImagePromptUse, LoraUse, Upscale
from dreamforge.gpu_runner.protocol.render_task import RenderTask, TaskImage
from dreamforge.gpu_runner.rendering.together import TOKENS_A_BLOCK
from dreamforge.gpu_runner.worker.render_batches import form_batches, halves, run_key
from dreamforge.runtime.storage.pipeline_class import family_of

values = st.fixed_dictionaries(
    {
        "prompt": st.sampled_from(["a fox", "a star"]),
        "seed": st.integers(0, 3),
        "images": st.integers(1, 9),
        "steps": st.sampled_from([4, 5]),
        "determinism": st.sampled_from([None, None, "batched", "strict"]),
        "model_path": st.sampled_from(["a", "a", "b"]),
        "together_max": st.integers(1, 8),
    }
)


def waiting(changes: Sequence[dict[str, Any]]) -> list[TaskImage]:
    made = [render_task(task_id=f"t{number}", **each) for number, each in enumerate(changes)]
    return [TaskImage(task, index) for task in made for index in task.to_render]


def bound(task: RenderTask) -> int:
    return task.together_max


@given(st.lists(values, max_size=6).map(waiting))
def test_each_image_is_in_one_batch_of_its_key_within_the_bounds_and_in_order(images: list[TaskImage]) -> None:
    batches = form_batches(images, bound)
    assert sorted((i.task.task_id, i.index) for batch in batches for i in batch) == sorted(
        (i.task.task_id, i.index) for i in images
    )
    for batch in batches:
        assert len({run_key(image) for image in batch}) == 1
        assert len(batch) <= min(image.task.together_max for image in batch)
        assert len(batch) == 1 or all(image.task.request.determinism != "strict" for image in batch)
        places = [images.index(image) for image in batch]
        assert places == sorted(places)
    firsts = [images.index(batch[0]) for batch in batches]
    assert firsts == sorted(firsts), "the image that waits longest is in the next batch"


@given(st.integers(2, 17))
def test_halves_are_the_whole_and_smaller(size: int) -> None:
    batch = tuple(waiting([{"images": size}]))
    first, second = halves(batch)
    assert first + second == batch
    assert 0 < len(first) <= len(second) < size


def request(**changes: Any) -> RenderRequest:
    return RenderRequest.model_validate(render_task().request.model_dump() | changes)


@pytest.mark.parametrize("name", ["references", "image_prompts", "control"])
def test_images_about_one_picture_go_together_and_those_about_another_do_not(name: str) -> None:
    uses: dict[str, Any] = {
        "references": lambda image: (image,),
        "image_prompts": lambda image: [ImagePromptUse(model_id="plus", image=image)],
        "control": lambda image: [ControlUse(model_id="canny", image=image)],
    }
    first, same, other = (
        batch_key(request(prompt=prompt, **{name: uses[name](image * 64)}))
        for prompt, image in (("a fox", "0"), ("a star", "0"), ("a fox", "1"))
    )
    assert first == same != other


def test_only_what_may_differ_is_left_out_of_the_key() -> None:
    plain = batch_key(request())
    for same in (
        {"prompt": "x"},
        {"negative_prompt": "y"},
        {"seed": 9},
        {"images": 3},
        {"preset": "draft"},
        {"output_format": "jpeg", "output_quality": 80},
        {"prompt_syntax": "weighted"},
        {"determinism": "batched"},
    ):
        assert same.keys() <= MAY_DIFFER
        assert batch_key(request(**same)) == plain
    for other in (
        {"steps": 5},
        {"guidance_scale": 4.0},
        {"width_px": 32},
        {"sampler": "euler"},
        {"clip_skip": 1},
        {"loras": [LoraUse(model_id="ink")]},
        {"init_image": "0" * 64, "strength": 0.5},
        {"init_image": "1" * 64, "strength": 0.5},
        {"upscale": Upscale(width_px=128, height_px=128)},
        {"upscale": Upscale(width_px=128, height_px=128, prompt="another")},
        {"control": [ControlUse(model_id="canny", image="0" * 64)]},
        {"references": ("0" * 64,)},
        {"image_prompts": [ImagePromptUse(model_id="plus", image="0" * 64)]},
    ):
        assert batch_key(request(**other)) not in (plain, None)


def test_what_is_rendered_alone_has_no_key() -> None:
    tiled = Upscale(width_px=128, height_px=128, tile_px=64)
    for alone in ({"determinism": "strict"}, {"geometry": Geometry(size=4, place=1)}, {"upscale": tiled}):
        assert batch_key(request(**alone)) is None


def test_the_scheduler_groups_by_length_the_families_whose_pipelines_need_it() -> None:
    pipelines = {family_of(name, {})[0]: tokens for name, tokens in TOKENS_A_BLOCK.items()}
    assert set(BYTES_A_BLOCK) == set(pipelines)
    for family, tokens in pipelines.items():
        assert BYTES_A_BLOCK[family] == (1 if tokens == 1 else 4 * tokens), "a token has about four bytes"
