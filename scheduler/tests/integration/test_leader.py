"""The leadership key is released, whatever was in flight."""

import asyncio

from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.service.tasks import cancel
from dreamforge.scheduler.liveness.leadership import STREAM, Leadership

KEY = "$KV.leaders.scheduler"


def nothing(_leads: bool) -> None:
    return None


async def test_a_leader_that_stops_while_it_renews_gives_the_key_back(bus: Bus, monkeypatch) -> None:
    """The renewal has reached the server, and its answer will never be seen: the key has a revision we do not know."""
    began, renewed = asyncio.Event(), asyncio.Event()
    leader = Leadership(bus, "scheduler", "first", lambda _leads: began.set())
    leading = asyncio.create_task(leader.run())
    await began.wait()
    ask = type(bus).ask

    async def unanswered(self: Bus, *args: object) -> object:
        await ask(self, *args)
        renewed.set()
        return await asyncio.get_running_loop().create_future()

    with monkeypatch.context() as patch:
        patch.setattr(type(bus), "ask", unanswered)
        await renewed.wait()
    await cancel(leading)
    (last,) = await direct_get.last_of_each(bus, STREAM, KEY)
    assert (last.data, last.headers.get("KV-Operation")) == (b"", "DEL")


async def test_the_key_of_another_holder_is_not_deleted(bus: Bus) -> None:
    began = asyncio.Event()
    leader = Leadership(bus, "scheduler", "first", lambda _leads: began.set())
    leading = asyncio.create_task(leader.run())
    await began.wait()
    await bus.js.publish(KEY, b"second")  # as after a lease that ran out unseen
    await cancel(leading)
    (last,) = await direct_get.last_of_each(bus, STREAM, KEY)
    assert last.data == b"second"
