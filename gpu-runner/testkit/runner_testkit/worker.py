"""For tests: what a child does with its tasks, in the process of the test, which has imported torch already."""

from typing import Any, TypeVar

from dreamforge.gpu_runner.protocol.messages import Cancelled, Done, Failed, FromChild
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.worker.task_runner import TaskRunner

Heard = TypeVar("Heard")


class Worker:
    """One child's worker; `heard` is what it said of its last run."""

    def __init__(self, renderer: Any) -> None:
        """Any: the renderer's module imports torch."""
        self.heard: list[FromChild] = []
        self._runner = TaskRunner(renderer, send=self.heard.append, clock=lambda: 0.0)

    def run(self, *tasks: RenderTask) -> list[FromChild]:
        """Render the tasks together; what was said."""
        self.heard.clear()
        self._runner.render(tasks, lambda _: False)
        return list(self.heard)

    def said(self, kind: type[Heard]) -> list[Heard]:
        """What it said of one kind in its last run."""
        return [message for message in self.heard if isinstance(message, kind)]

    def end_of(self, task: RenderTask) -> Done | Failed | Cancelled:
        """Render one task; how it ended."""
        self.run(task)
        (end,) = (message for message in self.heard if isinstance(message, Done | Failed | Cancelled))
        return end
