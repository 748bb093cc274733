"""The slots of a runner, each for one attempt or for a group: attempts whose tasks the child gets in one message."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from dreamforge.contracts.events import RenderGroup
from dreamforge.gpu_runner.protocol.render_task import RenderTask

#: How long attempts that have the slot wait for the others of their group. All were appended to the log at once, so it
#: is for one whose start the log is slow to take; what comes later is rendered after them.
JOIN_SECONDS = 1.0
SendTasks = Callable[[tuple[RenderTask, ...]], None]


@dataclass(slots=True)
class AttemptGroup:
    """The attempts of one slot. Each enters, hands in its task or not, and leaves; the last one frees the slot."""

    jobs: int
    slots: asyncio.Semaphore
    send: SendTasks
    _entering: asyncio.Lock = field(default_factory=asyncio.Lock)
    _inside: set[str] = field(default_factory=set)
    #: Attempts that have handed in a task, and those that will not.
    _settled: set[str] = field(default_factory=set)
    _tasks: list[RenderTask] = field(default_factory=list)
    _sent: bool = False
    _timer: asyncio.TimerHandle | None = None

    @property
    def must_wait(self) -> bool:
        """Whether `enter` would wait."""
        return not self._inside and (self.slots.locked() or self._entering.locked())

    @property
    def over(self) -> bool:
        """Whether its tasks have been sent: who comes now has missed it."""
        return self._sent

    async def enter(self, task_id: str) -> None:
        """Wait for the slot; of several that wait, whichever is first has it for all. May be cancelled."""
        async with self._entering:
            if not self._inside:
                await self.slots.acquire()
                self._timer = asyncio.get_running_loop().call_later(JOIN_SECONDS, self.send_now)
            self._inside.add(task_id)

    def hand_in(self, task: RenderTask) -> None:
        """Have a task rendered with those of the others; at once, if they have been sent."""
        self._tasks.append(task)
        self._settle(task.task_id)

    def send_now(self) -> None:
        """Send the tasks that are here, without waiting for others."""
        self._sent = True
        tasks, self._tasks = tuple(self._tasks), []
        if tasks:
            self.send(tasks)

    def leave(self, task_id: str) -> None:
        """An attempt is over, whether it has entered or not."""
        self._settle(task_id)
        if task_id in self._inside:
            self._inside.remove(task_id)
            if not self._inside:
                self._free()

    def _settle(self, task_id: str) -> None:
        self._settled.add(task_id)
        if self._sent or len(self._settled) >= self.jobs:
            self.send_now()

    def _free(self) -> None:
        self._sent = True
        if self._timer is not None:
            self._timer.cancel()
        self.slots.release()


@dataclass(slots=True)
class RenderSlots:
    """All slots of a runner, and the groups that wait for one or have one."""

    slots: asyncio.Semaphore
    send: SendTasks
    _groups: dict[str, AttemptGroup] = field(default_factory=dict)

    def group_of(self, assigned: RenderGroup | None) -> AttemptGroup:
        """The group of an assignment; one of its own for an attempt that was assigned alone, or comes too late."""
        if assigned is None:
            return AttemptGroup(1, self.slots, self.send)
        self._groups = {name: group for name, group in self._groups.items() if not group.over}
        if (group := self._groups.get(assigned.group_id)) is None:
            group = self._groups[assigned.group_id] = AttemptGroup(assigned.jobs, self.slots, self.send)
        return group
