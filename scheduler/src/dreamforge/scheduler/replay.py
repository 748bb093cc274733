"""One plan, offline: `capture` writes what a scheduler has now into a file, and from that file the plan is made again.

python -m dreamforge.scheduler.replay capture input.json    reads the log and the fleet, changes nothing
python -m dreamforge.scheduler.replay input.json            prints the plan that follows, with its reasons
"""

import asyncio
import sys
from pathlib import Path

from dreamforge.contracts.log.streams import JOBS
from dreamforge.runtime import clock
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.log.streams import connect_as
from dreamforge.runtime.log.views import FleetView, ModelsView, TenantsView
from dreamforge.runtime.service.tasks import cancel
from dreamforge.scheduler.planning.planning_input import ASSIGNMENTS, PlanningInput
from dreamforge.scheduler.planning.snapshot import Snapshot
from dreamforge.scheduler.settings import SchedulerSettings


async def capture(bus: Bus, settings: SchedulerSettings) -> PlanningInput:
    """Read the whole log, the fleet and the models, and return what a plan made now would depend on."""
    fleet, models, tenants = FleetView(bus), ModelsView(bus), TenantsView(bus)
    following = [asyncio.create_task(view.run()) for view in (fleet, models, tenants)]
    snapshot = Snapshot(settings.ageing)
    try:
        await tenants.ready.wait()
        snapshot.configure_tenants(tenants.tenants)
        async for batch in Follower(bus, JOBS.name).batches():
            for message in batch.messages:
                snapshot.apply(message.subject, message.headers, message.data, message.sequence)
            if batch.pending == 0:
                break
        await asyncio.gather(*(view.ready.wait() for view in (fleet, models)))
    finally:
        await cancel(*following)
    now = clock.now()
    snapshot.wake(now)
    heartbeats = tuple(fleet.runners.values())
    return PlanningInput.of(now, settings.plan_policy, heartbeats, tuple(models.models.values()), snapshot)


async def _capture() -> PlanningInput:
    settings = SchedulerSettings()
    bus = await connect_as(settings, "scheduler-capture")
    try:
        return await capture(bus, settings)
    finally:
        await bus.close()


def replay(text: str) -> str:
    """The plan that follows from a captured input, as JSON. Errors: pydantic's ValidationError."""
    return ASSIGNMENTS.dump_json(PlanningInput.model_validate_json(text).replay(), indent=1).decode()


def main(arguments: list[str]) -> int:
    """The command line; gives the exit status."""
    match arguments:
        case ["capture", path]:
            Path(path).write_text(asyncio.run(_capture()).model_dump_json(indent=1))
        case [path]:
            sys.stdout.write(replay(Path(path).read_text()) + "\n")
        case _:
            sys.stderr.write(__doc__ or "")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
