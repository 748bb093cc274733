"""Which model each busy runner will probably have to load next, so that it can read the files before. Pure."""

from dreamforge.scheduler.planning.fleet_index import FleetIndex
from dreamforge.scheduler.planning.queue import Queue

#: Shapes of waiting jobs that are looked at, best first: what is behind them waits for longer than a load takes.
LOOKED_AT = 8


def next_models(index: FleetIndex, queue: Queue) -> dict[str, str]:
    """By runner: of the jobs that wait, the model of the first one that it could take and whose model it has to load.

    Runners to which nothing of that kind waits are left out.
    """
    shapes = [index.needs(shape) for shape in sorted(queue.shapes(), key=queue.best)[:LOOKED_AT]]
    found: dict[str, str] = {}
    for name, load in index.loads.items():
        for needs in shapes:
            model_id = needs.shape.model_id
            resident = model_id in load.heartbeat.resident_model_ids
            if not resident and index.bytes_on(needs, name) is not None:
                found[name] = model_id
                break
    return found
