"""The jobs that could run now, kept sorted while jobs are added and removed.

Two levels. Tenants are ordered by the work they have received, divided by their weights (start-time fair queueing: a
tenant's `tag` is its virtual time; a tenant without queued jobs saves up no turns, it joins again at the virtual time
of the tenant that is served). Within a tenant there is one line for each shape and magnitude of work, ordered by rank,
so that a plan sees the first of the small jobs and the first of the large ones. The first jobs of all lines, the heads,
are kept in order by tenant and by shape, so that a plan finds the best one without a look at the others. Adding or
removing a job costs a bisection and an insertion into a list, and as much twice more where it is a head.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import lcm

from dreamforge.contracts.placement import Needs
from dreamforge.contracts.quotas import WEIGHT_MAX
from dreamforge.scheduler.planning.fairness import Ageing
from dreamforge.scheduler.planning.open_job import Line, OpenJob

# Parts of a pixel-step that tags count in: a multiple of every weight, so that tags are exact.
UNITS = lcm(*range(1, WEIGHT_MAX + 1))
Place = tuple[float, str]  # rank, then job id: a total order that does not depend on when jobs were added
Turn = tuple[int, Place, str]  # tag, best place, tenant: of equal tags, the tenant whose best job ranks first
Head = tuple[Place, Line]  # the first job of a line


@dataclass(slots=True)
class WaitingWork:
    """What is queued of one shape, over all tenants: images, and the steps of all images."""

    jobs: int = 0
    images: int = 0
    steps: float = 0.0

    def add(self, job: OpenJob, sign: int) -> None:
        """One more job, or one less."""
        self.jobs += sign
        self.images += sign * job.demand.images
        self.steps += sign * job.demand.images * job.demand.steps


@dataclass(slots=True)
class _Tenant:
    turn: Turn
    lines: dict[Line, list[Place]] = field(default_factory=dict)
    heads: list[Head] = field(default_factory=list)
    """Of all lines, the best first."""


class Queue:
    """Every queued job once."""

    def __init__(self, ageing: Ageing = Ageing()) -> None:
        self.ageing = ageing
        self.weights: Mapping[str, int] = {}
        """The weights of tenants, 1 or more; those that are not in it have 1."""
        self._size = 0
        self._waiting: dict[Needs, WaitingWork] = {}
        self._heads: dict[Needs, list[tuple[Place, str]]] = {}  # of the lines of a shape: place and tenant, sorted
        self._tenants: dict[str, _Tenant] = {}
        self._turns: list[Turn] = []
        self._virtual = 0
        self._owed: dict[str, int] = {}  # tags, ahead of virtual time, of tenants that have nothing queued

    def __len__(self) -> int:
        return self._size

    def turns(self) -> list[Turn]:
        """Tenants with queued jobs, the next one first: a sorted copy, which is also a heap."""
        return self._turns.copy()

    def turn_of(self, tenant: str) -> Turn:
        """When it is the turn of a tenant that has queued jobs."""
        return self._tenants[tenant].turn

    def lines(self, tenant: str) -> dict[Line, list[Place]]:
        """A tenant's queued jobs by line, best rank first. Do not change them."""
        return self._tenants[tenant].lines

    def heads(self, tenant: str) -> Sequence[Head]:
        """The first job of each of a tenant's lines, the best first. Do not change them."""
        return self._tenants[tenant].heads

    def shapes(self) -> list[Needs]:
        """The shapes of all queued jobs."""
        return list(self._heads)

    def best(self, shape: Needs) -> Place:
        """The best-ranked job of a queued shape, over all tenants."""
        return self._heads[shape][0][0]

    def waiting(self) -> Mapping[Needs, WaitingWork]:
        """What is queued, by shape. Do not change it."""
        return self._waiting

    def tenants_of(self, shape: Needs) -> set[str]:
        """The tenants with queued jobs of a shape."""
        return {tenant for _, tenant in self._heads.get(shape, ())}

    def place_of(self, job: OpenJob) -> Place:
        """The place of a job among those of its tenant."""
        return (self.ageing.rank(job.priority, job.demand.requested_at), job.job_id)

    def add(self, job: OpenJob) -> None:
        """Add a job."""
        name, place = job.demand.tenant, self.place_of(job)
        tenant = self._tenants.get(name)
        if tenant is None:
            tag = max(self._virtual, self._owed.pop(name, 0))
            tenant = self._tenants[name] = _Tenant((tag, place, name))
            insort(self._turns, tenant.turn)
        name_of_line = job.demand.line
        line = tenant.lines.setdefault(name_of_line, [])
        if not line or place < line[0]:
            if line:
                self._drop_head(tenant, name_of_line, line[0])
            self._put_head(tenant, name_of_line, place)
        insort(line, place)
        self._size += 1
        self._waiting.setdefault(job.demand.shape, WaitingWork()).add(job, 1)
        if place < tenant.turn[1]:
            self._move(tenant, (tenant.turn[0], place, name))

    def remove(self, job: OpenJob) -> None:
        """Remove a job. Errors: KeyError if it is not in the queue."""
        tenant = self._tenants[job.demand.tenant]
        name_of_line, place = job.demand.line, self.place_of(job)
        line = tenant.lines[name_of_line]
        index = bisect_left(line, place)
        if index == len(line) or line[index] != place:
            raise KeyError(job.job_id)
        del line[index]
        self._size -= 1
        self._waiting[job.demand.shape].add(job, -1)
        if index == 0:
            self._drop_head(tenant, name_of_line, place)
            if line:
                self._put_head(tenant, name_of_line, line[0])
        if not line:
            del tenant.lines[name_of_line]
        if not tenant.lines:
            self._leave(tenant)
        elif place == tenant.turn[1]:
            self._move(tenant, (tenant.turn[0], tenant.heads[0][0], job.demand.tenant))

    def cost(self, tenant: str, work: int, weight: int | None = None) -> int:
        """How far a tenant's tag grows with its work: with twice the weight half as far, so it gets twice the share.

        `weight` None: the present one.
        """
        return work * (UNITS // (weight or self.weights.get(tenant, 1)))

    def charge(self, name: str, work: int, weight: int | None = None) -> None:
        """A tenant was served: its tag grows by the cost of the work; virtual time advances to the tag it had."""
        cost = self.cost(name, work, weight)
        tenant = self._tenants.get(name)
        tag = tenant.turn[0] if tenant else max(self._virtual, self._owed.get(name, 0))
        self._virtual = max(self._virtual, tag)
        if tenant:
            self._move(tenant, (tag + cost, tenant.turn[1], name))
        else:
            self._owe(name, tag + cost)

    def restore(self, name: str, tag: int) -> None:
        """Give a tenant that has queued jobs the tag that was captured. Errors: KeyError."""
        tenant = self._tenants[name]
        self._move(tenant, (tag, tenant.turn[1], name))

    def __iter__(self) -> Iterator[str]:
        for tenant in self._tenants.values():
            for line in tenant.lines.values():
                yield from (job_id for _, job_id in line)

    def _put_head(self, tenant: _Tenant, line: Line, place: Place) -> None:
        insort(tenant.heads, (place, line))
        insort(self._heads.setdefault(line[0], []), (place, tenant.turn[2]))

    def _drop_head(self, tenant: _Tenant, line: Line, place: Place) -> None:
        del tenant.heads[bisect_left(tenant.heads, (place,))]
        of_shape = self._heads[line[0]]
        del of_shape[bisect_left(of_shape, (place,))]
        if not of_shape and not self._waiting[line[0]].jobs:
            del self._heads[line[0]], self._waiting[line[0]]

    def _move(self, tenant: _Tenant, turn: Turn) -> None:
        del self._turns[bisect_left(self._turns, tenant.turn)]
        tenant.turn = turn
        insort(self._turns, turn)

    def _leave(self, tenant: _Tenant) -> None:
        tag, _, name = tenant.turn
        del self._turns[bisect_left(self._turns, tenant.turn)]
        del self._tenants[name]
        self._owe(name, tag)

    def _owe(self, name: str, tag: int) -> None:
        """Remember the tag of a tenant that left while others compete; with no tenant left, all tags are forgotten."""
        if not self._tenants:
            self._owed.clear()
            self._virtual = max(self._virtual, tag)
        elif tag > self._virtual:
            self._owed[name] = tag
