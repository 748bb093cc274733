"""The live runners as a plan reads them: a fold of heartbeats and of what is placed on runners. No I/O, no clock.

One heartbeat, or one job that comes to a runner or leaves it, changes the entry of that runner. So a plan for one more
job does not read the whole fleet again. An index that has seen changes in any order is the same as one that is made of
the last state (a property test compares them).
"""

from bisect import bisect_left, insort
from collections.abc import Iterable

from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.placement import Models, Needs, RunnerLoad
from dreamforge.scheduler.planning.fleet_times import FleetTimes
from dreamforge.scheduler.planning.open_job import OpenJob
from dreamforge.scheduler.planning.shape_needs import ShapeNeeds
from dreamforge.scheduler.planning.snapshot import Snapshot

NO_MODELS: frozenset[str] = frozenset()


class FleetIndex:
    """`loads` by runner; `open`: those with a slot free that take new work; `names` of all, sorted.

    `model_ids`: what each can load, nothing if it takes no work at all. `observers`: by model and size, the runners
    that have seen what it really needs. `models` may be a view that changes: `models_changed` says so.
    """

    def __init__(self, models: Models) -> None:
        self.models = models
        self.times = FleetTimes((), models)
        self.loads: dict[str, RunnerLoad] = {}
        self.names: list[str] = []
        self.open: set[str] = set()
        self.model_ids: dict[str, frozenset[str]] = {}
        self.observers: dict[str, set[str]] = {}
        self.exhausted: set[str] = set()
        self._needs: dict[Needs, ShapeNeeds] = {}

    @staticmethod
    def of(loads: Iterable[RunnerLoad], models: Models) -> "FleetIndex":
        """An index of these runners."""
        index = FleetIndex(models)
        for load in loads:
            index.put(load)
        return index

    def models_changed(self) -> None:
        """A model was registered or removed: what shapes need of it is found again."""
        self._needs.clear()

    def needs(self, shape: Needs) -> ShapeNeeds:
        """What a shape needs of any runner."""
        if (found := self._needs.get(shape)) is None:
            found = self._needs[shape] = ShapeNeeds.of(shape, self.models)
        return found

    def bytes_on(self, needs: ShapeNeeds, runner_id: str) -> int | None:
        """What it needs on a runner; None if that can never take it."""
        return needs.bytes_on(self.loads[runner_id], self.model_ids[runner_id], self.models)

    def put(self, load: RunnerLoad) -> None:
        """A runner is as its heartbeat says, with this on it."""
        heartbeat, name = load.heartbeat, load.heartbeat.runner_id
        before = self.loads.get(name)
        if before is None:
            insort(self.names, name)
        self.loads[name] = load
        if load.free_slots and not heartbeat.draining:
            self.open.add(name)
        else:
            self.open.discard(name)
        if before is None or before.heartbeat is not heartbeat:
            self._observe(heartbeat, None if before is None else before.heartbeat)

    def remove(self, runner_id: str) -> None:
        """A runner is gone."""
        if (load := self.loads.pop(runner_id, None)) is None:
            return
        del self.names[bisect_left(self.names, runner_id)]
        self.open.discard(runner_id)
        self.exhausted.discard(runner_id)
        del self.model_ids[runner_id]
        self._see_memory(runner_id, load.heartbeat.memory.peaks, {})
        self.times.forget(runner_id)

    def place(self, heartbeat: Heartbeat, snapshot: Snapshot) -> None:
        """A runner is as its heartbeat says, with what the fold of the log has placed on it."""
        self.put(load_of(heartbeat, snapshot.placed_on(heartbeat.runner_id).values()))

    def follow(self, snapshot: Snapshot) -> None:
        """Read again what is on the runners whose jobs have changed since the last time."""
        for name in snapshot.moved():
            if (load := self.loads.get(name)) is not None:
                self.place(load.heartbeat, snapshot)

    def _observe(self, heartbeat: Heartbeat, before: Heartbeat | None) -> None:
        name, refuses = heartbeat.runner_id, heartbeat.starting or heartbeat.draining
        refuses = refuses or heartbeat.health.state == "fenced"
        self.model_ids[name] = NO_MODELS if refuses else frozenset(heartbeat.model_ids)
        (self.exhausted.add if heartbeat.memory.exhausted else self.exhausted.discard)(name)
        self._see_memory(name, {} if before is None else before.memory.peaks, heartbeat.memory.peaks)
        self.times.observe(heartbeat)

    def _see_memory(self, runner_id: str, before: Iterable[str], now: Iterable[str]) -> None:
        gone, come = set(before).difference(now), set(now).difference(before)
        for size in gone:
            self.observers[size].discard(runner_id)
            if not self.observers[size]:
                del self.observers[size]
        for size in come:
            self.observers.setdefault(size, set()).add(runner_id)


def load_of(heartbeat: Heartbeat, placed: Iterable[OpenJob]) -> RunnerLoad:
    """A live runner with the attempts and the memory that are assigned to it, without those that end."""
    ending = {(each.job_id, each.attempt) for each in heartbeat.ending}
    counted_bytes = counted = ends = 0
    for job in placed:
        if ending and (job.job_id, job.attempt) in ending:
            ends += 1
        else:
            counted += 1
            counted_bytes += job.reserved_bytes
    return RunnerLoad(heartbeat, counted_bytes, counted, ends)
