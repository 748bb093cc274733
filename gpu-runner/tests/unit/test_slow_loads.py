"""Weights on a slow disk: while a model is read a silence is no stall, up to a bound of its own."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from runner_testkit.tasks import render_task

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.protocol.child_options import ChildOptions
from dreamforge.gpu_runner.protocol.messages import Done, Loading, ModelLoaded, Ready
from dreamforge.gpu_runner.supervisor.child_supervisor import ChildSupervisor
from dreamforge.gpu_runner.supervisor.task_monitor import AttemptLost, TaskMonitor

TASK = render_task(model_id="m")


class Reader:
    """A task whose model is being read, and the child that reads it: it says nothing until it is made to."""

    def __init__(self, load_seconds: float) -> None:
        self.killed, self.loading_told = False, asyncio.Event()
        self.supervisor = ChildSupervisor(ChildOptions(renderer="synthetic"))
        self.supervisor._child = cast(Any, SimpleNamespace(kill=self._kill, send=lambda _message: None))
        self.supervisor.ready = Ready.model_construct()
        self.monitor = TaskMonitor(
            child=self.supervisor,
            group=cast(Any, SimpleNamespace(hand_in=self._read)),
            task=TASK,
            on_step=cast(Any, None),
            on_loading=self._told,
            on_warning=cast(Any, None),
            store=cast(Any, None),
            ending=cast(Any, None),
            stall_seconds=0.0,
            load_seconds=load_seconds,
        )

    def _read(self, _task: object) -> None:
        self.supervisor._hear(Loading(model_id="m"))

    async def _told(self, _model_id: str) -> None:
        self.loading_told.set()

    def _kill(self) -> None:
        self.killed = True


async def test_a_model_that_takes_longer_to_read_than_a_step_may_is_waited_for() -> None:
    reader = Reader(load_seconds=600.0)
    waiting = asyncio.ensure_future(reader.monitor.rendered())
    await reader.loading_told.wait()
    assert not waiting.done()
    reader.supervisor._hear(ModelLoaded(model_id="m", seconds=300.0, bytes=1))
    reader.supervisor._hear(Done(task_id=TASK.task_id, seconds=1.0, peak_bytes=0))
    assert await waiting == 1.0
    assert not reader.killed


async def test_a_model_that_is_not_read_in_its_own_time_is_a_stall() -> None:
    reader = Reader(load_seconds=0.0)
    with pytest.raises(AttemptLost) as lost:
        await reader.monitor.rendered()
    assert lost.value.reason is FailureReason.STALLED
    assert lost.value.retryable
    assert reader.killed
