"""What becomes of the words of a prompt, with real models in a real child."""

from collections.abc import Callable
from pathlib import Path

import pytest
from runner_testkit.child import Talk

from dreamforge.contracts.events import WarningCode
from dreamforge.gpu_runner.protocol.messages import Image, Warned
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.runtime.storage.model_folder import model_digest

pytestmark = [
    pytest.mark.torch,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("child"),
]
MakeTask = Callable[..., RenderTask]
SHAPES = Path(__file__).parents[3] / "models" / "forge-shapes"
SHAPES_TASK = {
    "model_id": "forge-shapes",
    "model_path": str(SHAPES),
    "model_digest": model_digest(SHAPES),
    "steps": 4,
    "guidance_scale": 3.0,
}


async def warnings_of(talk: Talk, task: RenderTask) -> tuple[list[Image], list[Warned]]:
    return await talk.images(task), talk.said(Warned, task.task_id)


async def test_a_word_that_the_model_has_no_token_for_is_told_before_the_first_picture(
    talk: Talk, tiny_task: MakeTask
) -> None:
    task = tiny_task(**SHAPES_TASK, prompt="A red Giraffe, and a giraffe's circle!", negative_prompt="a zebra")
    images, (warned,) = await warnings_of(talk, task)
    assert (warned.code, warned.words) == (WarningCode.UNKNOWN_WORDS, ("Giraffe", "giraffe's", "zebra"))
    assert "Giraffe" in warned.message
    assert talk.heard.index(warned) < talk.heard.index(images[0])


async def test_a_prompt_of_known_words_warns_of_nothing(talk: Talk, tiny_task: MakeTask) -> None:
    for task in (tiny_task(**SHAPES_TASK, prompt="a red circle"), tiny_task(prompt="a red giraffe, 🦊")):
        _, warnings = await warnings_of(talk, task)
        assert warnings == []


async def test_every_word_of_a_long_prompt_changes_the_picture(talk: Talk, tiny_task: MakeTask) -> None:
    long = "a red fox " * 40
    changed = long.strip() + " moon"
    (plain,), _ = await warnings_of(talk, tiny_task(prompt=long))
    (other,), warnings = await warnings_of(talk, tiny_task(prompt=changed))
    (again,), _ = await warnings_of(talk, tiny_task(prompt=changed))
    assert plain.recipe.prompt == long
    assert (plain.sha256 != other.sha256, other.sha256 == again.sha256) == (True, True)
    assert warnings == []


async def test_a_long_negative_prompt_is_read_to_its_end(talk: Talk, tiny_task: MakeTask) -> None:
    long = "text, " * 100
    (one,), _ = await warnings_of(talk, tiny_task(negative_prompt=long))
    (other,), _ = await warnings_of(talk, tiny_task(negative_prompt=long + "hands"))
    assert one.sha256 != other.sha256


async def test_a_word_longer_than_the_window_is_read_in_pieces(talk: Talk, tiny_task: MakeTask) -> None:
    (image,), warnings = await warnings_of(talk, tiny_task(prompt="狐" * 300))
    assert (image.recipe.prompt, warnings) == ("狐" * 300, [])
