"""Quotas hold between two counts, for requests at the same time, and while Postgres is unavailable."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from dreamforge.contracts.errors import DependencyAway, QueueFull, QuotaExceeded
from dreamforge.contracts.quotas import NO_QUOTAS, Quota, Quotas
from dreamforge.contracts.tenants import TenantState
from dreamforge.gateway.quotas.tenant_quotas import TenantQuotas
from dreamforge.gateway.quotas.usage import Count, UsedAmount
from dreamforge.gateway.quotas.usage_tables import UsageTables


class Tables(UsageTables):
    """What a test says is in the tables."""

    def __init__(self) -> None:
        self.sequence = 0
        self.used: dict[Quota, Mapping[str, tuple[UsedAmount, ...]]] = {}
        self.asked: list[tuple[Quota, frozenset[str] | None]] = []
        self.away = False

    async def open_jobs(self) -> Count:
        return self._count(Quota.OPEN_JOBS, None)

    async def pixel_steps(self, tenants: frozenset[str] | None) -> Count:
        return self._count(Quota.PIXEL_STEPS_PER_HOUR, tenants)

    async def stored_bytes(self, tenants: frozenset[str] | None) -> Count:
        return self._count(Quota.STORED_BYTES, tenants)

    def _count(self, quota: Quota, tenants: frozenset[str] | None) -> Count:
        self.asked.append((quota, tenants))
        if self.away:
            raise DependencyAway(dependency="postgres", reason="away")
        return Count(self.sequence, self.used.get(quota, {}))


def quotas(
    tables: Tables,
    installation: Quotas = NO_QUOTAS,
    tenants: dict[str, TenantState] | None = None,
    open_jobs: int = 100,
) -> TenantQuotas:
    found = tenants if tenants is not None else {}
    return TenantQuotas(tables, lambda: found, installation=installation, open_jobs=open_jobs)


async def accept(held: TenantQuotas, tenant: str, pixel_steps: int = 1, sequence: int | None = None) -> None:
    with held.submission() as admission:
        await held.require_open_job(tenant, admission)
        await held.require_pixel_steps(tenant, pixel_steps, admission)
        await asyncio.sleep(0)  # others are admitted meanwhile
        if sequence is not None:
            admission.recorded(sequence)


async def test_what_was_accepted_since_the_count_counts() -> None:
    tables = Tables()
    tables.used[Quota.OPEN_JOBS] = {"a": (UsedAmount(1),), "b": (UsedAmount(1),)}
    held = quotas(tables, open_jobs=4)
    await accept(held, "a", sequence=1)
    await accept(held, "c", sequence=2)
    with pytest.raises(QueueFull) as refused:
        await accept(held, "d")
    assert (refused.value.open_jobs, refused.value.maximum) == (4, 4)
    tables.sequence, tables.used[Quota.OPEN_JOBS] = (
        2,
        {"a": (UsedAmount(2),)},
    )  # they have caught up, and two jobs are done
    await held.open_jobs.refresh()
    await accept(held, "d")
    await held.close()


async def test_one_tenant_cannot_fill_the_queue_for_all_and_requests_at_once_see_each_other() -> None:
    held = quotas(Tables(), Quotas(open_jobs=3))
    results = await asyncio.gather(
        *(accept(held, "greedy", sequence=number) for number in range(1, 9)), return_exceptions=True
    )
    refused = [each for each in results if isinstance(each, QuotaExceeded)]
    assert len(refused) == 5
    assert (refused[0].quota, refused[0].used, refused[0].limit) == ("open_jobs", 3, 3)
    await accept(held, "modest", sequence=9)
    await held.close()


async def test_what_is_refused_or_fails_uses_nothing() -> None:
    held = quotas(Tables(), Quotas(open_jobs=1))
    for _ in range(5):
        await accept(held, "a")
    await accept(held, "a", sequence=1)
    with pytest.raises(QuotaExceeded):
        await accept(held, "a")
    await held.close()


async def test_a_count_that_fails_changes_nothing() -> None:
    tables = Tables()
    tables.away = True
    held = quotas(tables, Quotas(open_jobs=1))
    await accept(held, "a", sequence=1)
    with pytest.raises(QuotaExceeded):
        await accept(held, "a")
    await held.close()


async def test_pixel_steps_are_free_again_when_their_minute_is_an_hour_ago() -> None:
    tables, now = Tables(), datetime.now(UTC)
    soon, later = now + timedelta(seconds=90), now + timedelta(seconds=900)
    tables.used[Quota.PIXEL_STEPS_PER_HOUR] = {"a": (UsedAmount(40, soon), UsedAmount(50, later), UsedAmount(900, now))}
    held = quotas(tables, Quotas(pixel_steps_per_hour=100))
    await accept(held, "a", 10, sequence=1)
    waits = []
    for wanted in (40, 41, 101):
        with pytest.raises(QuotaExceeded) as refused:
            await accept(held, "a", wanted)
        waits.append(refused.value.retry_after_seconds)
    assert 80 <= waits[0] <= 91
    assert 890 <= waits[1] <= 901
    assert waits[2] == 3600
    await held.close()


async def upload(held: TenantQuotas, tenant: str, size_bytes: int) -> None:
    async with held.upload_of(tenant, size_bytes):
        pass


async def test_only_what_is_limited_is_counted_and_a_new_limit_at_once() -> None:
    tables, tenants = Tables(), {"a": TenantState(Quotas(stored_bytes=10))}
    tables.used[Quota.STORED_BYTES] = {"a": (UsedAmount(4),), "b": (UsedAmount(99),)}
    held = quotas(tables, tenants=tenants)
    await upload(held, "b", 10**12)
    with pytest.raises(QuotaExceeded, match="have 4 bytes and 10 are allowed"):
        await upload(held, "a", 7)
    with pytest.raises(ValueError, match="no image"):
        async with held.upload_of("a", 6):
            raise ValueError("no image")
    await upload(held, "a", 6)
    with pytest.raises(QuotaExceeded, match="have 10 bytes"):  # before a count has it, too
        await upload(held, "a", 1)
    assert tables.asked == [(Quota.STORED_BYTES, frozenset("a"))]
    tenants["b"] = TenantState(Quotas(stored_bytes=99))
    held.changed("b")
    with pytest.raises(QuotaExceeded):
        await upload(held, "b", 1)
    with pytest.raises(QuotaExceeded):  # a job stores images
        await accept(held, "b")
    await held.close()


async def test_streams_and_uploads_count_while_they_last() -> None:
    held = quotas(Tables(), Quotas(streams=2), {"a": TenantState(Quotas(streams=1, uploads=0))})
    held.hold("a", Quota.STREAMS)
    with pytest.raises(QuotaExceeded):
        held.hold("a", Quota.STREAMS)
    held.hold("b", Quota.STREAMS)
    held.release("a", Quota.STREAMS)
    held.hold("a", Quota.STREAMS)
    with pytest.raises(QuotaExceeded), held.held("a", Quota.UPLOADS):
        pass
    with held.held("b", Quota.UPLOADS):
        pass
    used = {each.quota: (each.used, each.limit, each.own) for each in await held.usage("a")}
    assert used[Quota.STREAMS] == (1, 1, True)
    assert used[Quota.UPLOADS] == (0, 0, True)
    assert used[Quota.PIXEL_STEPS_PER_HOUR] == (None, None, False)
    await held.close()


async def test_a_tenant_has_its_own_rate_of_requests() -> None:
    held = quotas(Tables(), tenants={"a": TenantState(Quotas(requests_per_second=0.01))})
    held.take_request("a")
    with pytest.raises(QuotaExceeded) as refused:
        held.take_request("a")
    assert 90 <= refused.value.retry_after_seconds <= 100
    for _ in range(100):
        held.take_request("b")
