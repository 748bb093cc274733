"""Which model each busy runner will probably have to load next, so that it can read the files before. Pure."""

from collections.abc import Iterable

from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.placement import Models, RunnerLoad, judge
from dreamforge.scheduler.planning.snapshot import Snapshot

#: Shapes of waiting jobs that are looked at, best first: what is behind them waits for longer than a load takes.
LOOKED_AT = 8


def next_models(fleet: Iterable[Heartbeat], snapshot: Snapshot, models: Models) -> dict[str, str]:
    """By runner: of the jobs that wait, the model of the first one that it could take and whose model it has to load.

    Runners to which nothing of that kind waits are left out.
    """
    queue = snapshot.queue
    shapes = sorted(queue.shapes(), key=queue.best)[:LOOKED_AT] if len(queue) else []
    found: dict[str, str] = {}
    for heartbeat in fleet:
        idle = RunnerLoad(heartbeat)
        for shape in shapes:
            resident = shape.model_id in heartbeat.resident_model_ids
            if not resident and judge(shape, models, idle).score is not None:
                found[heartbeat.runner_id] = shape.model_id
                break
    return found
