"""How much work waits for each model, in seconds: what an autoscaler adds runners by. Pure."""

from collections import defaultdict

from dreamforge.contracts.placement import Needs
from dreamforge.scheduler.planning.fleet_times import FleetTimes
from dreamforge.scheduler.planning.measured_pace import Pace, guessed
from dreamforge.scheduler.planning.queue import Queue

# The device that is guessed where no runner has measured a model, or none is up: one is added for it.
GUESSED_DEVICE = "cuda"


def waiting_seconds(times: FleetTimes, queue: Queue) -> dict[str, float]:
    """By model: how long one runner, as fast as the fastest that has measured it, would take for the jobs that wait."""
    found: dict[str, float] = defaultdict(float)
    for shape, work in queue.waiting().items():
        pace = _pace(times, shape)
        found[shape.model_id] += work.steps * pace.step_seconds() + work.images * pace.beside_seconds
    return dict(found)


def _pace(times: FleetTimes, shape: Needs) -> Pace:
    measured = times.fastest_measured(shape)
    return guessed(shape, GUESSED_DEVICE) if measured is None else times.pace(shape, measured)
