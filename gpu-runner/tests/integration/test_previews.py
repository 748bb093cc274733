"""Previews of a real render: they come with its steps, and the picture is the same with and without them."""

import base64
import io
from collections.abc import Callable

import pytest
from PIL import Image as Pil
from runner_testkit.child import Talk

from dreamforge.gpu_runner.protocol.render_task import RenderTask

pytestmark = [
    pytest.mark.torch,
    pytest.mark.timeout(240),
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("child"),
]


async def test_previews_come_with_the_steps_and_change_no_picture(
    talk: Talk, tiny_task: Callable[..., RenderTask]
) -> None:
    without = tiny_task(steps=40)
    plain = await talk.images(without)
    watched = tiny_task(steps=40, preview_seconds=0.001)
    seen = await talk.images(watched)
    previews = [step.preview for step in talk.steps(watched) if step.preview is not None]
    assert plain[0].body == seen[0].body
    assert all(step.preview is None for step in talk.steps(without))
    assert len(set(previews)) > 1, "each shows another moment"
    with Pil.open(io.BytesIO(base64.b64decode(previews[-1].partition(",")[2]))) as image:
        assert (image.format, image.size) == ("JPEG", (64, 64))
