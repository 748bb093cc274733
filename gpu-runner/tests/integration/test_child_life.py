"""How a child ends: killed, asked to stop, left alone by its supervisor, or told nonsense."""

import asyncio
import os
import signal
import socket
import subprocess
import sys

from runner_testkit.child import talking
from runner_testkit.tasks import render_task

from dreamforge.gpu_runner.protocol.child_options import ChildOptions
from dreamforge.gpu_runner.protocol.frames import Frame, encode_frame
from dreamforge.gpu_runner.protocol.messages import Done, Image, Render, StepDone
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.supervisor.local_models import SYNTHETIC_DIGEST
from dreamforge.gpu_runner.worker.connection import EXIT_PROTOCOL

SLOW = ChildOptions(renderer="synthetic", step_delay_seconds=0.05)


def task(task_id: str = "t", *, steps: int = 4) -> RenderTask:
    return render_task(task_id=task_id, model_id="synthetic", model_digest=SYNTHETIC_DIGEST, prompt="x", steps=steps)


async def test_a_killed_child_is_heard_of_at_once() -> None:
    async with talking(SLOW) as talk:
        talk.child.send(Render(tasks=(task(steps=900),)))
        await talk.until(StepDone)
        os.kill(talk.child.pid, signal.SIGKILL)
        assert await asyncio.wait_for(talk.child.wait_gone(), 5) == -signal.SIGKILL
        assert not talk.child.alive


async def test_a_child_that_is_asked_to_stop_finishes_first() -> None:
    async with talking(SLOW) as talk:
        talk.child.send(Render(tasks=(task(),)))
        assert await talk.child.stop(30) == 0
        assert len(talk.said(Done)) == 1


async def test_a_child_that_does_not_stop_in_time_is_killed() -> None:
    async with talking(SLOW) as talk:
        talk.child.send(Render(tasks=(task(steps=900),)))
        assert await talk.child.stop(0.2) == -signal.SIGKILL


async def test_slots_work_beside_each_other() -> None:
    options = ChildOptions(renderer="synthetic", step_delay_seconds=0.05, slots=2)
    async with talking(options) as talk:
        talk.child.send(Render(tasks=(task("long", steps=900),)))
        talk.child.send(Render(tasks=(task("short"),)))
        await talk.until(Done, "short")
        assert talk.said(Done, "long") == []


async def test_an_instant_render_tells_only_its_last_step() -> None:
    async with talking(ChildOptions(renderer="synthetic")) as talk:
        (image,) = await talk.images(task(steps=50))
        assert [step.step for step in talk.said(StepDone)] == [50]
        assert image.recipe.renderer == "synthetic"
        assert talk.said(Image) == [image]


def _bare_child() -> tuple["subprocess.Popen[bytes]", socket.socket]:
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "dreamforge.gpu_runner.worker", "--fd", str(theirs.fileno())]
    process = subprocess.Popen([*command, "--options", '{"renderer": "synthetic"}'], pass_fds=(theirs.fileno(),))
    theirs.close()
    return process, ours


def test_a_child_whose_supervisor_is_gone_leaves_by_itself() -> None:
    process, ours = _bare_child()
    ours.close()
    assert process.wait(20) == 0


def test_a_child_that_hears_nonsense_leaves_with_a_status_of_its_own() -> None:
    process, ours = _bare_child()
    with ours:
        ours.sendall(encode_frame(Frame(b'{"kind": "sing"}')))
        assert process.wait(20) == EXIT_PROTOCOL
