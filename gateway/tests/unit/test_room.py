"""The queue's bounds hold between two counts and while Postgres is away."""

import pytest

from dreamforge.contracts.errors import DependencyAway, QueueFull, TenantQueueFull
from dreamforge.contracts.request.limits import Limits
from dreamforge.gateway.submit.open_job_limits import Room


async def test_what_was_accepted_since_the_count_counts() -> None:
    async def count() -> dict[str, int]:
        return {"a": 1, "b": 1}

    room = Room(count, Limits(open_jobs=4))
    await room.refresh()
    for tenant in ("a", "c"):
        room.require(tenant)
        room.taken(tenant)
    with pytest.raises(QueueFull) as refused:
        room.require("d")
    assert (refused.value.open_jobs, refused.value.maximum) == (4, 4)
    await room.close()
    await room.refresh()  # the tables have caught up, and two jobs are done
    room.require("d")
    await room.close()


async def test_one_tenant_cannot_fill_the_queue_for_all() -> None:
    async def count() -> dict[str, int]:
        return {"greedy": 2}

    room = Room(count, Limits(open_jobs_per_tenant=3))
    await room.refresh()
    room.require("greedy")
    room.taken("greedy")
    with pytest.raises(TenantQueueFull) as refused:
        room.require("greedy")
    assert (refused.value.tenant, refused.value.open_jobs, refused.value.maximum) == ("greedy", 3, 3)
    room.require("modest")
    await room.close()


async def test_a_count_that_fails_changes_nothing() -> None:
    async def count() -> dict[str, int]:
        raise DependencyAway(dependency="postgres", reason="away")

    room = Room(count, Limits(open_jobs=1))
    room.require("a")
    await room.refresh()
    room.taken("a")
    with pytest.raises(QueueFull):
        room.require("a")
    await room.close()
