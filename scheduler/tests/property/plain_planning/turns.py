"""The order of tenants and jobs: as `planning.turns`, with a look at every line of a tenant."""

from collections.abc import Iterator, Mapping, Set
from heapq import heappop, heappush, merge
from itertools import islice

from dreamforge.contracts.placement import Needs
from dreamforge.scheduler.planning.open_job import JobDemand, Line, OpenJob
from dreamforge.scheduler.planning.queue import Place, Queue, Turn

# Jobs that are looked at for those that go along with another, so that a plan stays fast beside a long queue of others.
LOOKED_AT = 512


class PlainTurns:
    """One run over the tenants that have queued jobs."""

    def __init__(self, queue: Queue, jobs: Mapping[str, OpenJob]) -> None:
        self._queue, self._jobs = queue, jobs
        self._heap: list[Turn] = queue.turns()  # sorted, and so a heap
        self._tags = {tenant: tag for tag, _, tenant in self._heap}
        self._taken: set[str] = set()
        self._first: dict[tuple[str, Line], int] = {}  # the first job of each line that may not be taken yet

    def next(self, shapes: Set[Needs]) -> str | None:
        """The tenant whose turn it is, of those with a job of these shapes."""
        while self._heap:
            tag, _, tenant = self._heap[0]
            heads = self.heads(tenant, shapes)
            if heads and tag == self._tags[tenant]:
                return tenant
            heappop(self._heap)
            if heads:  # served since it was put there
                heappush(self._heap, (self._tags[tenant], min(heads)[0], tenant))
        return None

    def pass_over(self) -> None:
        """Nothing more is taken of the tenant whose turn it is."""
        heappop(self._heap)

    def heads(self, tenant: str, shapes: Set[Needs]) -> list[tuple[Place, Needs]]:
        """The next job of each of a tenant's lines, of these shapes."""
        found = []
        for name, line in self._queue.lines(tenant).items():
            if name[0] in shapes and (first := self._first_of(tenant, name, line)) < len(line):
                found.append((line[first], name[0]))
        return found

    def take(self, job: OpenJob) -> None:
        """Take a job, and charge its tenant."""
        demand = job.demand
        self._taken.add(job.job_id)
        self._tags[demand.tenant] += self._queue.cost(demand.tenant, demand.work)

    def images_of_kin(self, demand: JobDemand, family: str) -> int:
        """How many images wait that can be rendered with those of this demand, as far as is looked."""
        looked = iter(range(LOOKED_AT))
        kin = (place for tenant in self._tags for place in self._kin(tenant, demand, family, looked))
        return sum(self._jobs[job_id].demand.images for _, job_id in kin)

    def take_companions(self, demand: JobDemand, family: str, images: int, most: int) -> list[OpenJob]:
        """Take the next jobs that can be rendered with one of this demand: so many images, and `most` jobs, at most.

        A job that is larger than what is left does not hold up smaller ones.
        """
        looked = iter(range(LOOKED_AT))
        lines = {tenant: self._kin(tenant, demand, family, looked) for tenant in self._tags}
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

    def _push(self, heap: list[Turn], tenant: str, kin: Iterator[Place]) -> None:
        if (place := next(kin, None)) is not None:
            heappush(heap, (self._tags[tenant], place, tenant))

    def _kin(self, tenant: str, demand: JobDemand, family: str, looked: Iterator[int]) -> Iterator[Place]:
        """A tenant's jobs that can be rendered with one of this demand, the best first; not those that are retried."""
        of_shape = [(name, line) for name, line in self._queue.lines(tenant).items() if name[0] == demand.shape]
        left = (islice(line, self._first_of(tenant, name, line), None) for name, line in of_shape)
        for place, _ in zip(merge(*left), looked, strict=False):
            job = self._jobs[place[1]]
            if job.job_id not in self._taken and not job.attempt and job.demand.goes_with(demand, family):
                yield place

    def _first_of(self, tenant: str, name: Line, line: list[Place]) -> int:
        first = self._first.get((tenant, name), 0)
        while first < len(line) and line[first][1] in self._taken:
            first += 1
        self._first[tenant, name] = first
        return first
