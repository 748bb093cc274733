"""The order in which one plan takes jobs out of the queue: tenants in turn, each charged for what was taken of it.

Only reads the queue, so a plan that is thrown away leaves no trace; what was taken is remembered beside it.
"""

from bisect import bisect_left, insort
from collections.abc import Container, Iterable, Iterator, Mapping
from heapq import heappop, heappush, merge
from itertools import islice

from dreamforge.contracts.placement import Needs
from dreamforge.scheduler.planning.open_job import JobDemand, Line, OpenJob
from dreamforge.scheduler.planning.queue import Head, Place, Queue, Turn

# Jobs that are looked at for those that go along with another, so that a plan stays fast beside a long queue of others.
LOOKED_AT = 512
# Tenants in a row without a job that fits, after which those that have one are looked up by shape.
MISSES_MAX = 8


class Turns:
    """One run over the tenants that have queued jobs."""

    def __init__(self, queue: Queue, jobs: Mapping[str, OpenJob]) -> None:
        self._queue, self._jobs = queue, jobs
        self._heap: list[Turn] = queue.turns()  # sorted, and so a heap
        self._tags: dict[str, int] = {}  # of the tenants that were charged
        self._heads: dict[str, list[Head]] = {}  # of the tenants of which something was taken
        self._taken: set[str] = set()
        self._first: dict[tuple[str, Line], int] = {}  # the first job of each line that may not be taken yet

    def next(self, shapes: Container[Needs]) -> str | None:
        """The tenant whose turn it is, of those with a job of these shapes."""
        misses = 0
        while self._heap:
            tag, _, tenant = self._heap[0]
            head = next(self.heads(tenant, shapes), None)
            now = self._tag(tenant)
            if head is not None and tag == now:
                return tenant
            heappop(self._heap)
            if head is not None:  # served since it was put there
                heappush(self._heap, (now, head[0], tenant))
                continue
            misses += 1
            if misses == MISSES_MAX:
                self._keep_those_with(shapes)
        return None

    def pass_over(self) -> None:
        """Nothing more is taken of the tenant whose turn it is."""
        heappop(self._heap)

    def heads(self, tenant: str, shapes: Container[Needs]) -> Iterator[tuple[Place, Needs]]:
        """The next job of each of a tenant's lines, of these shapes, the best first."""
        changed = self._heads.get(tenant)
        for place, (shape, _) in self._queue.heads(tenant) if changed is None else changed:
            if shape in shapes:
                yield place, shape

    def take(self, job: OpenJob) -> None:
        """Take a job, and charge its tenant."""
        demand = job.demand
        self._taken.add(job.job_id)
        self._tags[demand.tenant] = self._tag(demand.tenant) + self._queue.cost(demand.tenant, demand.work)
        self._advance(demand.tenant, demand.line)

    def images_of_kin(self, demand: JobDemand, family: str) -> int:
        """How many images wait that can be rendered with those of this demand, as far as is looked."""
        looked, tenants = iter(range(LOOKED_AT)), self._tenants_of(demand.shape)
        kin = (place for tenant in tenants for place in self._kin(tenant, demand, family, looked))
        return sum(self._jobs[job_id].demand.images for _, job_id in kin)

    def take_companions(self, demand: JobDemand, family: str, images: int, most: int) -> list[OpenJob]:
        """Take the next jobs that can be rendered with one of this demand: so many images, and `most` jobs, at most.

        `family`: of their model. A job that is larger than what is left does not hold up smaller ones.
        """
        looked = iter(range(LOOKED_AT))
        lines = {tenant: self._kin(tenant, demand, family, looked) for tenant in self._tenants_of(demand.shape)}
        heap: list[Turn] = []
        for tenant in lines:
            self._push(heap, tenant, lines[tenant])
        found: list[OpenJob] = []
        while heap and images > 0 and len(found) < most:
            _, (_, job_id), tenant = heappop(heap)
            job = self._jobs[job_id]
            if job.demand.images <= images:
                self.take(job)
                found.append(job)
                images -= job.demand.images
            self._push(heap, tenant, lines[tenant])
        return found

    def _keep_those_with(self, shapes: Container[Needs]) -> None:
        """Of the tenants only those with a job of these shapes, unless they are most of them anyway."""
        found: set[str] = set()
        for shape in self._queue.shapes():
            if shape in shapes:
                found |= self._queue.tenants_of(shape)
                if 2 * len(found) > len(self._heap):
                    return
        self._heap = sorted(turn for turn in self._heap if turn[2] in found)

    def _tag(self, tenant: str) -> int:
        tag = self._tags.get(tenant)
        return self._queue.turn_of(tenant)[0] if tag is None else tag

    def _tenants_of(self, shape: Needs) -> Iterable[str]:
        """Those with queued jobs of a shape, in the order of turns when the plan began."""
        return sorted(self._queue.tenants_of(shape), key=self._queue.turn_of)

    def _push(self, heap: list[Turn], tenant: str, kin: Iterator[Place]) -> None:
        if (place := next(kin, None)) is not None:
            heappush(heap, (self._tag(tenant), place, tenant))

    def _kin(self, tenant: str, demand: JobDemand, family: str, looked: Iterator[int]) -> Iterator[Place]:
        """A tenant's jobs that can be rendered with one of this demand, the best first; not those that are retried."""
        of_shape = [(name, line) for name, line in self._queue.lines(tenant).items() if name[0] == demand.shape]
        left = (islice(line, self._first.get((tenant, name), 0), None) for name, line in of_shape)
        for place, _ in zip(merge(*left), looked, strict=False):
            job = self._jobs[place[1]]
            if job.job_id not in self._taken and not job.attempt and job.demand.goes_with(demand, family):
                yield place

    def _advance(self, tenant: str, name: Line) -> None:
        """The head of a line is its first job that was not taken."""
        line, before = self._queue.lines(tenant)[name], self._first.get((tenant, name), 0)
        first = before
        while first < len(line) and line[first][1] in self._taken:
            first += 1
        if first == before:
            return
        self._first[tenant, name] = first
        if (heads := self._heads.get(tenant)) is None:
            heads = self._heads[tenant] = list(self._queue.heads(tenant))
        del heads[bisect_left(heads, (line[before],))]
        if first < len(line):
            insort(heads, (line[first], name))
