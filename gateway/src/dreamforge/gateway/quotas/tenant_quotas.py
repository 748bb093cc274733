"""The quotas of tenants as the gateway holds them: what would be too much is refused before anything is stored."""

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from dreamforge.contracts.errors import QueueFull, QuotaExceeded
from dreamforge.contracts.quotas import HOUR_SECONDS, Quota, Quotas
from dreamforge.contracts.tenants import UNCONFIGURED, TenantState
from dreamforge.gateway.quotas.counted import Counted
from dreamforge.gateway.quotas.token_bucket import TokenBucket, take
from dreamforge.gateway.quotas.usage import Addition
from dreamforge.gateway.quotas.usage_tables import UsageTables
from dreamforge.runtime import clock

# When a job or a stream ends is not known: ask again soon.
SOON_SECONDS = 2
# Tenants are configured by an administrator, so there are few; a bucket that is full again is as none.
BUCKETS_MAX = 10_000


@dataclass(frozen=True, slots=True)
class QuotaUsage:
    """One quota of a tenant. `own`: not that of the installation. `frees_at`: when a full one has room, if known."""

    quota: Quota
    limit: int | float | None
    own: bool
    used: int | None
    frees_at: datetime | None


class Admission:
    """What one submission adds; undone, unless its job is in the log."""

    def __init__(self) -> None:
        self.additions: list[tuple[Counted, Addition]] = []

    def recorded(self, sequence: int) -> None:
        """The job is in the log."""
        for _, addition in self.additions:
            addition.sequence = sequence

    def end(self) -> None:
        """Undo what is not in the log."""
        for counted, addition in self.additions:
            if addition.sequence is None:
                counted.usage.undo(addition)


class TenantQuotas:
    """`tenants` may raise DependencyAway until they were read; `installation` holds where a tenant says nothing.

    Open jobs, pixel-steps and bytes count for all gateways, the others for this one.
    """

    def __init__(
        self,
        tables: UsageTables,
        tenants: Callable[[], Mapping[str, TenantState]],
        *,
        installation: Quotas,
        open_jobs: int,
    ) -> None:
        """`open_jobs`: how many all tenants may have together."""
        self._tenants = tenants
        self._installation = installation
        self._open_jobs_max = open_jobs
        self._effective: dict[str, tuple[TenantState, Quotas]] = {}
        self.open_jobs = Counted("open jobs", tables.open_jobs)
        self._counted = {
            Quota.OPEN_JOBS: self.open_jobs,
            Quota.PIXEL_STEPS_PER_HOUR: Counted(
                "pixel-steps", lambda: tables.pixel_steps(self._limited_by(Quota.PIXEL_STEPS_PER_HOUR))
            ),
            Quota.STORED_BYTES: Counted(
                "stored bytes", lambda: tables.stored_bytes(self._limited_by(Quota.STORED_BYTES))
            ),
        }
        self._now: dict[Quota, Counter[str]] = {Quota.STREAMS: Counter(), Quota.UPLOADS: Counter()}
        self._buckets: dict[str, TokenBucket] = {}

    def of(self, tenant: str) -> Quotas:
        """The quotas of a tenant. Errors: DependencyAway."""
        state = self._tenants().get(tenant)
        if state is None:
            return self._installation
        known = self._effective.get(tenant)
        if known is None or known[0] is not state:
            known = self._effective[tenant] = (state, state.quotas.or_else(self._installation))
        return known[1]

    @contextlib.contextmanager
    def submission(self) -> Iterator[Admission]:
        """Around the making of one job."""
        admission = Admission()
        try:
            yield admission
        finally:
            admission.end()

    async def require_open_job(self, tenant: str, admission: Admission, jobs: int = 1) -> None:
        """Room for so many open jobs more, and for its images. Errors: QueueFull, QuotaExceeded, DependencyAway."""
        await self.open_jobs.up_to_date()
        whole = self.open_jobs.usage.total()
        if whole + jobs > self._open_jobs_max:
            raise QueueFull(open_jobs=whole, maximum=self._open_jobs_max)
        await self._require(tenant, Quota.STORED_BYTES, 1)
        await self._require(tenant, Quota.OPEN_JOBS, jobs)
        admission.additions.append((self.open_jobs, self.open_jobs.usage.add(tenant, jobs)))

    async def require_pixel_steps(self, tenant: str, pixel_steps: int, admission: Admission) -> None:
        """Room for the work of a job. Errors: QuotaExceeded, DependencyAway."""
        if await self._require(tenant, Quota.PIXEL_STEPS_PER_HOUR, pixel_steps):
            counted = self._counted[Quota.PIXEL_STEPS_PER_HOUR]
            admission.additions.append((counted, counted.usage.add(tenant, pixel_steps)))

    @contextlib.asynccontextmanager
    async def upload_of(self, tenant: str, size_bytes: int) -> AsyncIterator[None]:
        """Around the storing of an upload: room for its bytes. Errors: QuotaExceeded, DependencyAway."""
        if not await self._require(tenant, Quota.STORED_BYTES, size_bytes):
            yield
            return
        usage = self._counted[Quota.STORED_BYTES].usage
        addition = usage.add(tenant, size_bytes)
        try:
            yield
        except BaseException:
            usage.undo(addition)
            raise
        addition.stored = True

    def take_request(self, tenant: str) -> None:
        """Count one request. Errors: QuotaExceeded, DependencyAway."""
        rate = self.of(tenant).requests_per_second
        if rate is None:
            return
        if len(self._buckets) >= BUCKETS_MAX:
            self._buckets.clear()
        self._buckets[tenant], early_seconds = take(self._buckets.get(tenant), rate, clock.monotonic_seconds())
        if early_seconds:
            used = math.ceil(max(1.0, rate))
            raise QuotaExceeded(
                quota=Quota.REQUESTS_PER_SECOND,
                tenant=tenant,
                limit=rate,
                used=used,
                wanted=1,
                retry_after_seconds=math.ceil(early_seconds),
            )

    @contextlib.contextmanager
    def held(self, tenant: str, quota: Quota) -> Iterator[None]:
        """One stream or upload of a tenant, while it lasts. Errors: QuotaExceeded, DependencyAway."""
        self.hold(tenant, quota)
        try:
            yield
        finally:
            self.release(tenant, quota)

    def hold(self, tenant: str, quota: Quota) -> None:
        """As `held`, until it is released."""
        limit, used = self.of(tenant).limit(quota), self._now[quota][tenant]
        if limit is not None and used >= limit:
            raise QuotaExceeded(
                quota=quota, tenant=tenant, limit=limit, used=used, wanted=1, retry_after_seconds=SOON_SECONDS
            )
        self._now[quota][tenant] += 1

    def release(self, tenant: str, quota: Quota) -> None:
        """The stream or upload has ended."""
        self._now[quota][tenant] -= 1
        if not self._now[quota][tenant]:
            del self._now[quota][tenant]

    async def usage(self, tenant: str, state: TenantState | None = None) -> tuple[QuotaUsage, ...]:
        """Every quota of a tenant, in the order of their declaration; `state`: newer than what was read.

        Errors: DependencyAway.
        """
        own = (state or self._tenants().get(tenant, UNCONFIGURED)).quotas
        return tuple([await self._usage(tenant, quota, own) for quota in Quota])

    def changed(self, _: str) -> None:
        """A tenant was configured: one that has a limit now may be in no count yet."""
        for quota in (Quota.PIXEL_STEPS_PER_HOUR, Quota.STORED_BYTES):
            self._counted[quota].forget()

    async def close(self) -> None:
        """Wait for counts that are running."""
        await asyncio.gather(*(counted.close() for counted in self._counted.values()))

    async def _usage(self, tenant: str, quota: Quota, quotas: Quotas) -> QuotaUsage:
        own = quotas.limit(quota) is not None
        limit = (quotas if own else self._installation).limit(quota)
        if quota in self._now:
            return QuotaUsage(quota, limit, own, self._now[quota][tenant], None)
        if (counted := self._counted.get(quota)) is None or (limit is None and quota is not Quota.OPEN_JOBS):
            return QuotaUsage(quota, limit, own, None, None)
        await counted.up_to_date()
        now = clock.now()
        used = counted.usage.used(tenant, now)
        frees_at = None if limit is None or used < limit else counted.usage.fits_at(tenant, int(limit) - 1, now)
        return QuotaUsage(quota, limit, own, used, frees_at)

    async def _require(self, tenant: str, quota: Quota, wanted: int) -> bool:
        """Whether there is a limit; and then, room within it. Errors: QuotaExceeded, DependencyAway."""
        limit = self.of(tenant).limit(quota)
        if limit is None:
            return False
        counted = self._counted[quota]
        await counted.up_to_date()
        usage, now = counted.usage, clock.now()
        used = usage.used(tenant, now)
        if used + wanted > limit:
            at = usage.fits_at(tenant, int(limit) - wanted, now)
            unknown = SOON_SECONDS if quota is Quota.OPEN_JOBS else HOUR_SECONDS
            wait_seconds = unknown if at is None else max(1, math.ceil((at - now).total_seconds()))
            raise QuotaExceeded(
                quota=quota, tenant=tenant, limit=limit, used=used, wanted=wanted, retry_after_seconds=wait_seconds
            )
        return True

    def _limited_by(self, quota: Quota) -> frozenset[str] | None:
        """Tenants with a limit; None: every one has."""
        if self._installation.limit(quota) is not None:
            return None
        tenants = self._tenants()
        return frozenset(tenant for tenant, state in tenants.items() if state.quotas.limit(quota) is not None)
