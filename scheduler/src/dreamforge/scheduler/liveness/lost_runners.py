"""Records the loss of runners: one that registered and is not present gets its `RunnerLost` in the fleet's log."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from dreamforge.contracts.errors import VersionConflict
from dreamforge.contracts.installation_events import RunnerLost, RunnerRegistered
from dreamforge.contracts.log.envelope import Recorded
from dreamforge.contracts.log.streams import FLEET
from dreamforge.contracts.log.subjects import entity_of
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.readable import readable


@dataclass(frozen=True, slots=True)
class LostRunner:
    """A runner that registered, did not stop, and is not present."""

    runner_id: str
    instance_id: str


def lost_runners(log: Iterable[Recorded], present: Mapping[str, str]) -> list[LostRunner]:
    """Runners whose last event is their registration and that are not present. Pure; `log` in stream order."""
    last = {recorded.entity_id: recorded for recorded in log}
    return [
        LostRunner(runner_id, recorded.event.instance_id)
        for runner_id, recorded in last.items()
        if runner_id not in present and isinstance(recorded.event, RunnerRegistered)
    ]


async def record_lost_runners(
    bus: Bus,
    store: EventStore,
    subject_filter: str,
    present: Mapping[str, str],
    *,
    now: datetime,
    silent_seconds: float,
) -> None:
    """Append RunnerLost for each lost runner under the filter, unless another scheduler or the runner was faster.

    Errors: DependencyAway.
    """
    log, versions = await _read(bus, subject_filter)
    for runner in lost_runners(log, present):
        event = RunnerLost(at=now, instance_id=runner.instance_id, silent_seconds=silent_seconds)
        try:
            await store.append(runner.runner_id, [event], expected=versions[runner.runner_id])
        except VersionConflict:
            continue


async def _read(bus: Bus, subject_filter: str) -> tuple[list[Recorded], dict[str, int]]:
    """The readable events, and the version of every runner, for which unreadable (parked) messages count too."""
    stored = await direct_get.last_of_each(bus, FLEET.name, subject_filter)
    versions = {entity_of(message.subject): message.sequence for message in stored}  # in stream order: the last wins
    return [recorded for message in stored if (recorded := readable(message)) is not None], versions
