"""What the fleet can still take, and when it ends it, while a plan fills it. Pure.

Beside the index of the fleet, which a plan only reads, this has what the plan has given to runners so far.
"""

from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from heapq import merge, nsmallest
from itertools import chain, islice
from math import inf

from dreamforge.contracts.events import Candidate
from dreamforge.contracts.models.descriptor import Tier
from dreamforge.contracts.placement import (
    RESIDENT_SCORE,
    Needs,
    RunnerLoad,
    bytes_an_image,
    images_together,
    is_exhausted,
    judge,
    required_on,
    score_of,
    scored,
)
from dreamforge.scheduler.planning.fleet_index import FleetIndex
from dreamforge.scheduler.planning.load_orders import LoadOrders
from dreamforge.scheduler.planning.open_job import JobDemand
from dreamforge.scheduler.planning.ranking import ROUNDING, Bounds, Order, Ranking, in_order, nearer
from dreamforge.scheduler.planning.shape_needs import ShapeNeeds
from dreamforge.scheduler.planning.snapshot import Snapshot
from dreamforge.scheduler.planning.timelines import Expected, Timelines

Kind = tuple[Needs, int, float, bool]
"""Jobs of one kind take the same time: shape, images, steps, and whether images are rendered together."""
# Above the points for idle slots and a tight fit together (see `contracts.placement`).
OTHER_SCORE = 16.0
# So many jobs of a model in one plan might wait, until the busy runners are sorted for them.
ASKED_OFTEN = 4
# Runners that are asked about a shape before those with the most free memory are looked for.
ASKED_FIRST = 8


class BusyOrder:
    """Busy runners by when they can start a job of one model."""

    def __init__(self, starts: dict[str, float]) -> None:
        self._starts = starts
        self.soonest = sorted((seconds, name) for name, seconds in starts.items())

    def put(self, name: str, seconds: float) -> None:
        """A runner has become busy, or will be for longer."""
        if (before := self._starts.get(name)) is not None:
            del self.soonest[bisect_left(self.soonest, (before, name))]
        self._starts[name] = seconds
        insort(self.soonest, (seconds, name))


class FleetCapacity:
    """The runners of one plan. Judgements are kept until their runner changes."""

    def __init__(self, index: FleetIndex, snapshot: Snapshot, now: datetime) -> None:
        self.index, self.models = index, index.models
        self.loads = index.loads.copy()
        self.timelines = Timelines(index, snapshot, now)
        self.open = index.open.copy()
        self.reserved: set[str] = set()
        self._snapshot, self._now = snapshot, now
        self._judged: dict[Needs, dict[str, tuple[int, Candidate]]] = defaultdict(dict)
        self._versions: dict[str, int] = {}
        self._load_orders = LoadOrders(index, self.timelines.held_of)
        self._by_loaded: dict[str, Order] = {}
        self._roomiest: dict[str, list[tuple[int, str]]] = {}
        self._rankings: dict[Kind, Ranking] = {}
        self._scored: dict[Needs, Ranking] = {}
        self._asked: Counter[str] = Counter()
        self._busy: dict[str, BusyOrder] = {}
        self._closed_first: tuple[str, ...] = ()
        self._closed: list[tuple[float, str]] = []  # when their next slot is free: what the plan has filled or promised
        self._closed_at: dict[str, float] = {}

    def candidate(self, shape: Needs, runner_id: str) -> Candidate:
        """How well a runner suits a shape now."""
        if runner_id in self.reserved:
            return Candidate(runner_id=runner_id, refused="kept free for a larger job that has become urgent")
        judged, version = self._judged[shape], self._versions.get(runner_id, 0)
        if (found := judged.get(runner_id)) is None or found[0] != version:
            found = judged[runner_id] = (version, self._judge(shape, runner_id))
        return found[1]

    def _judge(self, shape: Needs, runner_id: str) -> Candidate:
        need_bytes, load = self._need_now(self.index.needs(shape), runner_id), self.loads[runner_id]
        if need_bytes is None or self.models[shape.model_id].tiers:
            return judge(shape, self.models, load)
        return scored(shape, self.models, load, None, need_bytes)

    def best(self, shape: Needs, without: frozenset[str] = frozenset()) -> Candidate | None:
        """The open runner with the highest score, of equal ones the first by name; None if none can take it now."""
        ranking = self.by_score(shape)
        entries = ranking.best(len(without) + 1) if without else (ranking.first(),)
        found = (entry[2] for entry in entries if entry is not None and entry[2] not in without)
        best = next(found, None)
        return None if best is None else self.candidate(shape, best)

    def can_take(self, shape: Needs) -> bool:
        """Whether any open runner can take a shape now."""
        needs = self.index.needs(shape)
        if not needs.tiers_bytes:
            return False
        observers = chain.from_iterable(self.index.observers.get(name, ()) for name in needs.observed_names)
        seen = self.open.intersection(observers)
        some = islice(self.open, ASKED_FIRST)  # most shapes fit most runners
        return any(self._need_now(needs, name) is not None for name in chain(some, seen, self._roomy_for(needs)))

    def _roomy_for(self, needs: ShapeNeeds) -> Iterator[str]:
        """The runners that had enough memory for the most frugal tier when the plan began."""
        model_id = needs.shape.model_id
        if (order := self._roomiest.get(model_id)) is None:
            loads = ((self.loads[name], name) for name in self._open_with(model_id))
            left = ((-load.left_bytes, name) for load, name in loads)
            order = self._roomiest[model_id] = sorted(left)
        most = -needs.least_bytes
        for missing_bytes, name in order:
            if missing_bytes > most:
                return
            yield name

    def _open_with(self, model_id: str) -> Iterator[str]:
        """Those that were open when the plan began, and can load a model."""
        model_ids = self.index.model_ids
        return (name for name in self.index.open if model_id in model_ids[name])

    def by_score(self, shape: Needs) -> Ranking:
        """The open runners by their score for a shape."""
        if (ranking := self._scored.get(shape)) is None:
            needs = self.index.needs(shape)

            def keys(name: str) -> tuple[float, float, bool] | None:
                score = self._score(needs, name)
                return None if score is None else (-score, 0.0, True)

            order = self._loaded_first(shape.model_id)
            ranking = self._scored[shape] = Ranking(in_order(order), keys, self._versions)
        return ranking

    def _loaded_first(self, model_id: str) -> Order:
        """Open runners with the model, each with what its score cannot exceed, turned round."""
        if (order := self._by_loaded.get(model_id)) is None:
            loads, points = self.loads, (-OTHER_SCORE, -OTHER_SCORE - RESIDENT_SCORE)
            order = self._by_loaded[model_id] = sorted(
                (points[model_id in loads[name].resident_model_ids], 0.0, name) for name in self._open_with(model_id)
            )
        return order

    def ranking(self, demand: JobDemand) -> Ranking:
        """The open runners by when they would end such a job; something must have been measured of its shape."""
        kind = (demand.shape, demand.images, demand.steps, demand.batch_key is not None)
        if (ranking := self._rankings.get(kind)) is None:
            needs = self.index.needs(demand.shape)
            bounds, keys = self._bounds(demand, needs), self._keys(demand, needs)
            ranking = self._rankings[kind] = Ranking(bounds, keys, self._versions, self.timelines.sooner)
        return ranking

    def _bounds(self, demand: JobDemand, needs: ShapeNeeds) -> Bounds:
        """What the open runners cannot do better than: those that hold the model by their own times of the shape."""
        model_id = demand.shape.model_id
        held, measured = self._load_orders.of(model_id)
        bound, runs = self.timelines.bounds(demand, needs.size), self.timelines.runs(demand, needs.size)
        is_open = self.open

        def find(names: list[str]) -> list[tuple[float, str]]:
            return [(seconds * ROUNDING, name) for seconds, name in runs([name for name in names if name in is_open])]

        loading = (measured, self._load_orders.others(model_id))
        return merge(nearer(held, bound, find), *(in_order(order, *bound) for order in loading))

    def _keys(self, demand: JobDemand, needs: ShapeNeeds) -> Callable[[str], tuple[float, float, bool] | None]:
        """What the open runners are ranked by for a job: see `Ranking`."""
        end, shape = self.timelines.ends(demand, needs.size), demand.shape
        is_open, loads, bytes_on = self.open, self.loads, self.index.bytes_on

        def keys(name: str) -> tuple[float, float, bool] | None:  # asked some ten thousand times a plan
            if name not in is_open or (need_bytes := bytes_on(needs, name)) is None:
                return None
            load = loads[name]
            if need_bytes > load.left_bytes:
                return end(name), inf, False
            return end(name), -score_of(shape, need_bytes, load), True

        return keys

    def soonest_now(self, demand: JobDemand) -> Expected | None:
        """What is expected of the runner that ends a job soonest of those that can take it now."""
        found = self.ranking(demand).first()
        return None if found is None else self.timelines.expected(demand, found[2])

    def soonest_later(self, demand: JobDemand, below: float) -> Expected | None:
        """The same of those that would have to be waited for, if one of them ends it before that."""
        entry = self.ranking(demand).first_later(below)
        best = None if entry is None else (entry[0], entry[2])
        needs, model_id = self.index.needs(demand.shape), demand.shape.model_id
        end, (factor, beside) = self.timelines.ends(demand, needs.size), self.timelines.bounds(demand, needs.size)
        step_seconds_of = self.timelines.times.least_of(model_id).step_seconds_of
        least = self.timelines.least_seconds(demand, needs.size)
        for bound, name in self._busy_for(model_id):
            limit = below if best is None else best[0]
            if (bound + least) * ROUNDING > limit:
                break
            start = self.timelines.start_seconds(model_id, name)
            if (start + factor * step_seconds_of(name) + beside) * ROUNDING > limit:
                continue
            if self._ever(needs, name) and name not in self.reserved:
                found = (end(name), name)
                if found[0] < below and (best is None or found < best):
                    best = found
        return None if best is None else self.timelines.expected(demand, best[1])

    def _busy_for(self, model_id: str) -> Iterable[tuple[float, str]]:
        """The busy runners, each with what it cannot start a job of the model before, the soonest first: when it is
        free, or, where that is asked often, when it has loaded the model.
        """
        self._asked[model_id] += 1
        if self._asked[model_id] < ASKED_OFTEN:
            return merge(self._closed, self._closed_before())
        if (order := self._busy.get(model_id)) is None:
            start = self.timelines.start_seconds
            order = self._busy[model_id] = BusyOrder({name: start(model_id, name) for name in self._ever_closed()})
        return order.soonest

    def _ever_closed(self) -> Iterable[str]:
        """The busy runners: those that were it when they were asked for first, and those that the plan has changed."""
        if not self._busy:
            self._closed_first = tuple(name for _, name in self._closed_before())
        return chain(self._closed_first, self._closed_at)

    def _closed_before(self) -> Iterator[tuple[float, str]]:
        """Runners that were busy when the plan began and that it has not changed, by the soonest end on them."""
        loads, without = self.index.loads, (self.index.open, self._closed_at)
        for seconds, name in self._snapshot.by_end(self._now):
            if name in loads and name not in without[0] and name not in without[1]:
                yield seconds, name

    def runners_for(self, shape: Needs) -> Iterator[str]:
        """The runners that can take a shape now or later, once no more runners are reserved, by name."""
        needs = self.index.needs(shape)
        return (name for name in self.index.names if self._ever(needs, name) and name not in self.reserved)

    def _ever(self, needs: ShapeNeeds, name: str) -> bool:
        return self.index.bytes_on(needs, name) is not None

    def _need_now(self, needs: ShapeNeeds, name: str) -> int | None:
        """Memory that it needs on an open runner; None: it cannot take the shape now."""
        if name not in self.open:
            return None
        need_bytes = self.index.bytes_on(needs, name)
        return need_bytes if need_bytes is not None and need_bytes <= self.loads[name].left_bytes else None

    def _score(self, needs: ShapeNeeds, name: str) -> float | None:
        need_bytes = self._need_now(needs, name)
        return None if need_bytes is None else score_of(needs.shape, need_bytes, self.loads[name])

    def need(self, shape: Needs, runner_id: str, tier: str | None) -> int:
        """Memory that a shape needs on a runner in a tier of its model, which must be registered."""
        return required_on(self.loads[runner_id].heartbeat, shape, self.models, self._tier(shape, tier))

    def exhausted(self, shape: Needs) -> frozenset[str]:
        """The runners that had nothing left to try when they ran out of memory for a shape."""
        return frozenset(name for name in self.index.exhausted if is_exhausted(self.loads[name].heartbeat, shape))

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
        return len(self.by_score(shape).all_now())

    def _tier(self, shape: Needs, name: str | None) -> Tier | None:
        return self.models[shape.model_id].tier(name) if name else None

    def fill(self, runner_id: str, need_bytes: int) -> None:
        """Add the attempts of one slot to a runner."""
        load = self.loads[runner_id]
        load = replace(
            load, committed_bytes=load.committed_bytes + need_bytes, committed_slots=load.committed_slots + 1
        )
        self.loads[runner_id] = load
        self._versions[runner_id] = self._versions.get(runner_id, 0) + 1
        if not load.free_slots:
            self.open.discard(runner_id)
            self._close(runner_id)

    def promise(self, demand: JobDemand, expected: Expected) -> None:
        """A runner gets a job, now or when it is free: what comes after it ends later."""
        self.timelines.take(demand, expected)
        self._versions[expected.runner_id] = self._versions.get(expected.runner_id, 0) + 1
        if expected.runner_id not in self.open:
            self._close(expected.runner_id)

    def _close(self, runner_id: str) -> None:
        """Keep by its next free slot what this plan has changed and can give nothing more now."""
        if not self.timelines.measured:
            return
        if (before := self._closed_at.get(runner_id)) is not None:
            del self._closed[bisect_left(self._closed, (before, runner_id))]
        self._closed_at[runner_id] = self.timelines.free_in_seconds(runner_id)
        insort(self._closed, (self._closed_at[runner_id], runner_id))
        for model_id, order in self._busy.items():
            order.put(runner_id, self.timelines.start_seconds(model_id, runner_id))

    def partly_used(self) -> list[str]:
        """Open runners of which memory is taken: only they can take more once they are free than they can now."""
        return [name for name in self.open if self.loads[name].committed_bytes]

    def able(self, shape: Needs, names: Iterable[str]) -> list[RunnerLoad]:
        """Of these, the open runners that could take the shape if nothing else were on them."""
        needs = self.index.needs(shape)
        return [self.loads[name] for name in names if name in self.open and self._ever(needs, name)]

    def reserve(self, shape: Needs, names: Iterable[str]) -> None:
        """Reserve the runner with the most free memory of those that are able to take the shape."""
        freest = min(self.able(shape, names), key=_most_free_memory, default=None)
        if freest is not None:
            self.reserved.add(freest.heartbeat.runner_id)
            self.open -= self.reserved

    def candidates(self, demand: JobDemand, bound: int) -> tuple[Candidate, ...]:
        """Open runners best first, then as many of the others, with their refusals, as the bound allows."""
        shape = demand.shape
        if self.timelines.knows(shape):
            best = [self._with_times(shape, name, end) for end, _, name, _ in self.ranking(demand).best(bound)]
            listed = {candidate.runner_id for candidate in best}
        else:
            best = [self.candidate(shape, name) for _, _, name, _ in self.by_score(shape).best(bound)]
            if len(best) < bound:
                refuse = self.open.difference(candidate.runner_id for candidate in best)
                best += (self.candidate(shape, name) for name in nsmallest(bound - len(best), refuse))
            listed = self.open
        others = (name for name in self.index.names if name not in listed)
        return (*best, *(self.candidate(shape, name) for name in islice(others, bound - len(best))))

    def _with_times(self, shape: Needs, runner_id: str, end_seconds: float) -> Candidate:
        """A candidate that says when it would have ended the job. It is asked for once, so it is not kept."""
        source = self.timelines.source(self.index.needs(shape).size, shape, runner_id)
        times = {"ends_in_seconds": round(end_seconds, 3), "estimate": source}
        return self._judge(shape, runner_id).model_copy(update=times)


def _most_free_memory(load: RunnerLoad) -> tuple[int, str]:
    return (-load.left_bytes, load.heartbeat.runner_id)
