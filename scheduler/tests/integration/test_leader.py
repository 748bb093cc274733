"""The leadership key is released, whatever was in flight."""

import asyncio
from datetime import timedelta

import pytest

from dreamforge.contracts.leader_lease import LEASE_HEADERS, LeaderLease, holder_of
from dreamforge.runtime import clock
from dreamforge.runtime.log import direct_get, leader_get
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.leadership import STREAM, Leadership
from dreamforge.runtime.service.tasks import cancel

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


@pytest.mark.parametrize("forged", ["a name alone", "no time to live", "a lease of the future", "a copy"])
async def test_what_is_no_lease_keeps_no_scheduler_from_leading(bus: Bus, forged: str) -> None:
    at = clock.now() + (timedelta(days=1) if forged == "a lease of the future" else timedelta())
    lease = LeaderLease(instance_id="intruder", at=at).model_dump_json().encode()
    headers = {} if forged == "no time to live" else LEASE_HEADERS
    if forged == "a copy":
        headers = headers | {"Nats-Stream": "STEPS"}
    await bus.js.publish(KEY, b"intruder" if forged == "a name alone" else lease, headers=headers)
    began = asyncio.Event()
    leading = asyncio.create_task(Leadership(bus, "scheduler", "first", lambda _leads: began.set()).run())
    await asyncio.wait_for(began.wait(), 10)
    await cancel(leading)


async def test_a_lease_is_believed_until_it_ends(bus: Bus) -> None:
    lease = LeaderLease(instance_id="other", at=clock.now()).model_dump_json().encode()
    await bus.js.publish(KEY, lease, headers=LEASE_HEADERS)
    second = Leadership(bus, "scheduler", "second", nothing)
    await second._step()
    assert not second.leads
    found = await leader_get.stored_last(bus, STREAM, KEY)
    assert found is None or holder_of(found[2], found[1], clock.now()) == "other"
