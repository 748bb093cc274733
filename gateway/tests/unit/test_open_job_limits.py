"""The limits of open jobs hold between two counts and while Postgres is unavailable."""

import pytest

from dreamforge.contracts.errors import DependencyAway, QueueFull, TenantQueueFull
from dreamforge.contracts.request.limits import Limits
from dreamforge.gateway.submit.open_job_limits import OpenJobLimits


async def test_what_was_accepted_since_the_count_counts() -> None:
    async def count() -> dict[str, int]:
        return {"a": 1, "b": 1}

    limits = OpenJobLimits(count, Limits(open_jobs=4))
    await limits.refresh()
    for tenant in ("a", "c"):
        limits.require(tenant)
        limits.taken(tenant)
    with pytest.raises(QueueFull) as refused:
        limits.require("d")
    assert (refused.value.open_jobs, refused.value.maximum) == (4, 4)
    await limits.close()
    await limits.refresh()  # the tables have caught up, and two jobs are done
    limits.require("d")
    await limits.close()


async def test_one_tenant_cannot_fill_the_queue_for_all() -> None:
    async def count() -> dict[str, int]:
        return {"greedy": 2}

    limits = OpenJobLimits(count, Limits(open_jobs_per_tenant=3))
    await limits.refresh()
    limits.require("greedy")
    limits.taken("greedy")
    with pytest.raises(TenantQueueFull) as refused:
        limits.require("greedy")
    assert (refused.value.tenant, refused.value.open_jobs, refused.value.maximum) == ("greedy", 3, 3)
    limits.require("modest")
    await limits.close()


async def test_a_count_that_fails_changes_nothing() -> None:
    async def count() -> dict[str, int]:
        raise DependencyAway(dependency="postgres", reason="away")

    limits = OpenJobLimits(count, Limits(open_jobs=1))
    limits.require("a")
    await limits.refresh()
    limits.taken("a")
    with pytest.raises(QueueFull):
        limits.require("a")
    await limits.close()
