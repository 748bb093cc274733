"""What the fleet can still take, and when it ends it: as `planning.capacity`, with a look at every runner."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from heapq import nsmallest
from itertools import islice
from math import inf

from dreamforge.contracts.events import Candidate
from dreamforge.contracts.models.descriptor import Tier
from dreamforge.contracts.placement import (
    Models,
    Needs,
    RunnerLoad,
    bytes_an_image,
    can_ever_take,
    images_together,
    is_exhausted,
    judge,
    required_on,
)
from dreamforge.scheduler.planning.open_job import JobDemand
from dreamforge.scheduler.planning.snapshot import Snapshot
from dreamforge.scheduler.planning.timelines import Expected

from .timelines import PlainTimelines

Entry = tuple[float, float, str]
"""When the runner would end the job, its score turned round (infinite: it cannot take the job now), and its id."""


class PlainCapacity:
    """The runners of one plan. Judgements are cached until their runner changes."""

    def __init__(self, fleet: Iterable[RunnerLoad], snapshot: Snapshot, models: Models, now: datetime) -> None:
        self.models = models
        self.loads = {
            load.heartbeat.runner_id: load for load in sorted(fleet, key=lambda load: load.heartbeat.runner_id)
        }
        self.timelines = PlainTimelines(self.loads.values(), snapshot, models, now)
        self.open = {name for name, load in self.loads.items() if load.free_slots and not load.heartbeat.draining}
        self.reserved: set[str] = set()
        self._any_exhausted = any(load.heartbeat.memory.exhausted for load in self.loads.values())
        self._judged: dict[Needs, dict[str, Candidate]] = {}
        self._able: dict[Needs, dict[str, bool]] = {}
        self._runners_for: dict[Needs, list[str]] = {}

    def candidate(self, shape: Needs, runner_id: str) -> Candidate:
        """How well a runner suits a shape now."""
        judged = self._judged.setdefault(shape, {})
        if runner_id in self.reserved:
            return Candidate(runner_id=runner_id, refused="kept free for a larger job that has become urgent")
        if runner_id not in judged:
            judged[runner_id] = judge(shape, self.models, self.loads[runner_id])
        return judged[runner_id]

    def best(self, shape: Needs, without: frozenset[str] = frozenset()) -> Candidate | None:
        """The open runner with the highest score, of equal ones the first by name; None if none can take it now."""
        found = [c for name in self.open - without if (c := self.candidate(shape, name)).score is not None]
        return min(found, key=best_first, default=None)

    def can_take(self, shape: Needs) -> bool:
        """Whether any open runner can take a shape now."""
        return any(self.candidate(shape, name).score is not None for name in self.open)

    def ranked(self, demand: JobDemand) -> list[Entry]:
        """The runners by when they would end such a job; something must have been measured of its shape."""
        end, score = self.timelines.ends(demand), self._scores(demand.shape)
        scores = ((name, score(name)) for name in self.runners_for(demand.shape))
        return sorted((end(name), inf if found is None else -found, name) for name, found in scores)

    def ranked_now(self, demand: JobDemand) -> list[Entry]:
        """Those of them that can take it now."""
        return [entry for entry in self.ranked(demand) if entry[1] < inf]

    def runners_for(self, shape: Needs) -> list[str]:
        """The runners that can take a shape now or later, once no more runners are reserved."""
        if shape not in self._runners_for:
            able = (name for name in self.loads if self._able_when_free(shape, name))
            self._runners_for[shape] = [name for name in able if name not in self.reserved]
        return self._runners_for[shape]

    def _scores(self, shape: Needs) -> Callable[[str], float | None]:
        judged = self._judged.setdefault(shape, {})

        def score(name: str) -> float | None:
            if name not in self.open:
                return None
            return (judged.get(name) or self.candidate(shape, name)).score

        return score

    def need(self, shape: Needs, runner_id: str, tier: str | None) -> int:
        """Memory that a shape needs on a runner in a tier of its model, which must be registered."""
        return required_on(self.loads[runner_id].heartbeat, shape, self.models, self._tier(shape, tier))

    def exhausted(self, shape: Needs) -> frozenset[str]:
        """The runners that had nothing left to try when they ran out of memory for a shape."""
        return self._exhausted_for(shape) if self._any_exhausted else frozenset()

    def _exhausted_for(self, shape: Needs) -> frozenset[str]:
        return frozenset(name for name, load in self.loads.items() if is_exhausted(load.heartbeat, shape))

    def need_beside(self, shape: Needs, runner_id: str, tier: str | None, images: int) -> int:
        """Memory that so many images need in the run of another job of their kind."""
        heartbeat = self.loads[runner_id].heartbeat
        return images * bytes_an_image(shape, self.models, self._tier(shape, tier), heartbeat)

    def together(self, shape: Needs, runner_id: str, tier: str | None) -> int:
        """How many images of a shape a runner renders in one run, once what it has now is over if it is busy."""
        load = self.loads[runner_id]
        if not load.free_slots:
            load = RunnerLoad(load.heartbeat)
        return images_together(shape, self.models, load, self._tier(shape, tier))

    def count_able_now(self, shape: Needs) -> int:
        """How many open runners can take a shape."""
        return sum(self.candidate(shape, name).score is not None for name in self.open)

    def _tier(self, shape: Needs, name: str | None) -> Tier | None:
        return self.models[shape.model_id].tier(name) if name else None

    def fill(self, runner_id: str, need_bytes: int) -> None:
        """Add the attempts of one slot to a runner."""
        load = self.loads[runner_id]
        load = replace(
            load, committed_bytes=load.committed_bytes + need_bytes, committed_slots=load.committed_slots + 1
        )
        self.loads[runner_id] = load
        for judged in self._judged.values():
            judged.pop(runner_id, None)
        if not load.free_slots:
            self.open.discard(runner_id)

    def promise(self, demand: JobDemand, expected: Expected) -> None:
        """A runner gets a job, now or when it is free: what comes after it ends later."""
        self.timelines.take(demand, expected)

    def able(self, shape: Needs) -> list[RunnerLoad]:
        """Open runners that could take the shape if nothing else were on them."""
        return [self.loads[name] for name in self.open if self._able_when_free(shape, name)]

    def _able_when_free(self, shape: Needs, name: str) -> bool:
        able = self._able.setdefault(shape, {})
        if name not in able:
            load = self.loads[name]
            is_idle = not load.committed_slots and name not in self.reserved  # then the score is needed anyway
            able[name] = (
                self.candidate(shape, name).score is not None
                if is_idle
                else can_ever_take(shape, self.models, load.heartbeat)
            )
        return able[name]

    def reserve(self, shape: Needs) -> None:
        """Reserve the runner with the most free memory of those that are able to take the shape."""
        freest = min(self.able(shape), key=_most_free_memory, default=None)
        if freest is not None:
            self.reserved.add(freest.heartbeat.runner_id)
            self.open -= self.reserved

    def candidates(self, demand: JobDemand, bound: int) -> tuple[Candidate, ...]:
        """Open runners best first, then as many of the others, with their refusals, as the bound allows."""
        if self.timelines.knows(demand.shape):
            entries = self.ranked_now(demand)[:bound]
            best = [self._with_times(demand.shape, name, end) for end, _, name in entries]
            able = {candidate.runner_id for candidate in best}
        else:
            best = nsmallest(bound, (self.candidate(demand.shape, name) for name in self.open), key=best_first)
            able = self.open
        others = (name for name in self.loads if name not in able)
        return (*best, *(self.candidate(demand.shape, name) for name in islice(others, bound - len(best))))

    def _with_times(self, shape: Needs, runner_id: str, end_seconds: float) -> Candidate:
        """A candidate that says when it would have ended the job."""
        judged = self.candidate(shape, runner_id)
        return Candidate(
            runner_id=runner_id,
            score=judged.score,
            tier=judged.tier,
            reasons=judged.reasons,
            ends_in_seconds=round(end_seconds, 3),
            estimate=self.timelines.source(shape, runner_id),
        )


def best_first(candidate: Candidate) -> tuple[bool, float, str]:
    """Sorts candidates by score."""
    return (candidate.score is None, -(candidate.score or 0.0), candidate.runner_id)


def _most_free_memory(load: RunnerLoad) -> tuple[int, str]:
    return (load.committed_bytes - load.heartbeat.budget_bytes, load.heartbeat.runner_id)
