"""How much work waits for each model, in seconds: what an autoscaler adds runners by. Pure."""

from collections import defaultdict
from collections.abc import Iterable

from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.placement import Models, Needs
from dreamforge.scheduler.planning.fleet_times import FleetTimes, Pace, guessed
from dreamforge.scheduler.planning.snapshot import Snapshot

# The device that is guessed where no runner has measured a model, or none is up: one is added for it.
GUESSED_DEVICE = "cuda"


def waiting_seconds(fleet: Iterable[Heartbeat], snapshot: Snapshot, models: Models) -> dict[str, float]:
    """By model: how long one runner, as fast as the fastest that has measured it, would take for the jobs that wait.

    By lines of the queue, whose jobs take the same within a factor of two: the first of a line stands for the others.
    """
    times, jobs, queue = FleetTimes(fleet, models), snapshot.jobs, snapshot.queue
    paces: dict[Needs, Pace] = {}
    found: dict[str, float] = defaultdict(float)
    for _, _, tenant in queue.turns():
        for (shape, _), line in queue.lines(tenant).items():
            demand = jobs[line[0][1]].demand
            pace = paces.get(shape) or paces.setdefault(shape, _pace(times, shape))
            found[shape.model_id] += len(line) * pace.run_seconds(demand.images, demand.steps)
    return dict(found)


def _pace(times: FleetTimes, shape: Needs) -> Pace:
    measured = times.fastest_measured(shape)
    return guessed(shape, GUESSED_DEVICE) if measured is None else times.pace(shape, measured)
