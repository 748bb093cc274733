"""Attempts of a group share one slot and go to the child in one message; nothing waits for one that does not come."""

import asyncio

from runner_testkit.tasks import render_task

from dreamforge.contracts.events import RenderGroup
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.supervisor import render_slots
from dreamforge.gpu_runner.supervisor.render_slots import AttemptGroup, RenderSlots

A, B, C = (render_task(task_id=name) for name in "abc")


class Child:
    """What the child was sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.news = asyncio.Event()

    def render(self, tasks: tuple[RenderTask, ...]) -> None:
        self.sent.append("".join(task.task_id for task in tasks))
        self.news.set()


def slots(child: Child) -> RenderSlots:
    return RenderSlots(asyncio.Semaphore(1), child.render)


def group_of(slots: RenderSlots, jobs: int) -> list[AttemptGroup]:
    return [slots.group_of(RenderGroup(group_id="g", jobs=jobs)) for _ in range(jobs)]


async def test_the_tasks_of_a_group_are_sent_when_the_last_is_there() -> None:
    child = Child()
    a, b = group_of(slots(child), 2)
    assert a is b
    await a.enter("a")
    assert not b.must_wait
    await b.enter("b")
    a.hand_in(A)
    assert child.sent == []
    b.hand_in(B)
    assert child.sent == ["ab"]


async def test_who_hands_in_nothing_is_not_waited_for() -> None:
    child = Child()
    a, b, c = group_of(slots(child), 3)
    await a.enter("a")
    await b.enter("b")
    a.hand_in(A)
    b.leave("b")  # the log refused its start
    assert child.sent == []
    c.leave("c")  # it never entered
    assert child.sent == ["a"]


async def test_who_does_not_come_is_waited_for_no_longer_than_the_bound(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(render_slots, "JOIN_SECONDS", 0.01)
    child = Child()
    made = slots(child)
    group, *_ = group_of(made, 3)
    await group.enter("a")
    group.hand_in(A)
    async with asyncio.timeout(5):
        await child.news.wait()
    assert child.sent == ["a"]
    late = made.group_of(RenderGroup(group_id="g", jobs=3))
    assert late is not group
    assert late.must_wait, "the slot is taken"


async def test_the_slot_is_free_when_the_last_has_left() -> None:
    child = Child()
    made = slots(child)
    group, _ = group_of(made, 2)
    for task in (A, B):
        await group.enter(task.task_id)
        group.hand_in(task)
    alone = made.group_of(None)
    entering = asyncio.create_task(alone.enter("c"))
    group.leave("a")
    await asyncio.sleep(0)
    assert not entering.done()
    group.leave("b")
    await entering
    alone.hand_in(C)
    assert child.sent == ["ab", "c"]
    alone.leave("c")
    assert not made.slots.locked()


async def test_one_that_is_cancelled_while_it_waits_leaves_the_others_waiting() -> None:
    child = Child()
    made = slots(child)
    busy = made.group_of(None)
    await busy.enter("x")
    group, _ = group_of(made, 2)
    first, second = (asyncio.create_task(group.enter(name)) for name in "ab")
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    group.leave("a")
    busy.leave("x")
    await second
    group.hand_in(B)
    assert child.sent == ["b"]
    group.leave("b")
    assert not made.slots.locked()


async def test_what_is_cancelled_is_sent_first_so_that_the_child_can_stop_it() -> None:
    child = Child()
    group, _ = group_of(slots(child), 2)
    await group.enter("a")
    group.hand_in(A)
    group.send_now()
    await group.enter("b")
    group.hand_in(B)
    assert child.sent == ["a", "b"]
