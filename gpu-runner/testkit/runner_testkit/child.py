"""For tests: one child, and all that it has said."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from dreamforge.gpu_runner.protocol.child_options import ChildOptions
from dreamforge.gpu_runner.protocol.messages import Cancelled, Done, Failed, FromChild, Image, Ready, Render, StepDone
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.supervisor.child_process import Child

Heard = TypeVar("Heard")
#: Importing torch without bytecode on two busy cores was measured at 22 s.
READY_SECONDS = 90.0


@dataclass(slots=True)
class Talk:
    """A conversation with one child; `heard` is everything it said, in order."""

    heard: list[FromChild] = field(default_factory=list)
    child: Child = field(init=False)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, message: FromChild) -> None:
        """Take one message."""
        self.heard.append(message)
        self._news.set()

    def said(self, kind: type[Heard], task_id: str | None = None) -> list[Heard]:
        """What it has said so far of one kind (and of one task)."""
        found = [message for message in self.heard if isinstance(message, kind)]
        return [message for message in found if task_id in (None, getattr(message, "task_id", None))]

    async def until(self, kind: type[Heard], task_id: str | None = None, *, seconds: float = 60.0) -> Heard:
        """The first message of one kind (and of one task), waited for. Errors: TimeoutError."""
        async with asyncio.timeout(seconds):
            while not (found := self.said(kind, task_id)):
                self._news.clear()
                await self._news.wait()
        return found[0]

    async def end_of(self, task: RenderTask) -> Done | Failed | Cancelled:
        """Give it a task and wait for the task's end."""
        self.child.send(Render(tasks=(task,)))
        async with asyncio.timeout(60):
            while True:
                for message in self.heard:
                    if isinstance(message, Done | Failed | Cancelled) and message.task_id == task.task_id:
                        return message
                self._news.clear()
                await self._news.wait()

    async def images(self, task: RenderTask) -> list[Image]:
        """Give it a task that succeeds; its images."""
        end = await self.end_of(task)
        assert isinstance(end, Done), end
        return self.said(Image, task.task_id)

    def steps(self, task: RenderTask) -> list[StepDone]:
        """The steps of a task so far."""
        return self.said(StepDone, task.task_id)


@asynccontextmanager
async def talking(options: ChildOptions | None = None) -> AsyncIterator[Talk]:
    """A child that is ready; killed at the end, if it is still there."""
    talk = Talk()
    talk.child = await Child.start(options or ChildOptions(), talk.hear)
    try:
        await talk.until(Ready, seconds=READY_SECONDS)
        yield talk
    finally:
        talk.child.kill()
        await talk.child.wait_gone()
