"""The fleet's own log: a runner that came and is gone without a word gets its `RunnerLost`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from dreamforge.contracts.errors import MalformedEvent, VersionConflict
from dreamforge.contracts.events import RunnerLost, RunnerRegistered
from dreamforge.contracts.log.envelope import Recorded, unseal
from dreamforge.contracts.log.streams import FLEET
from dreamforge.contracts.log.subjects import entity_of
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.message import LogMessage


@dataclass(frozen=True, slots=True)
class Missing:
    """A runner that should be there."""

    runner_id: str
    instance_id: str


def missing(log: Iterable[Recorded], present: Mapping[str, str]) -> list[Missing]:
    """Runners whose last word was that they came, and that are not present. Pure; `log` in stream order."""
    last = {recorded.entity_id: recorded for recorded in log}
    return [
        Missing(runner_id, recorded.event.instance_id)
        for runner_id, recorded in last.items()
        if runner_id not in present and isinstance(recorded.event, RunnerRegistered)
    ]


async def declare_lost(
    bus: Bus,
    store: EventStore,
    subject_filter: str,
    present: Mapping[str, str],
    *,
    now: datetime,
    silent_seconds: float,
) -> None:
    """Append RunnerLost for each missing runner under the filter; whoever else does so first is right too.

    Errors: DependencyAway.
    """
    stored, versions = await _log(bus, subject_filter)
    for runner in missing(stored, present):
        lost = RunnerLost(at=now, instance_id=runner.instance_id, silent_seconds=silent_seconds)
        try:
            await store.append(runner.runner_id, [lost], expected=versions[runner.runner_id])
        except VersionConflict:
            continue


async def _log(bus: Bus, subject_filter: str) -> tuple[list[Recorded], dict[str, int]]:
    """What can be read, and the version of every runner: what nobody can read (it is parked) counts there too."""
    stored = await direct_get.last_of_each(bus, FLEET.name, subject_filter)
    versions = {entity_of(message.subject): message.sequence for message in stored}  # in stream order: the last wins
    return [recorded for message in stored if (recorded := _readable(message)) is not None], versions


def _readable(message: LogMessage) -> Recorded | None:
    try:
        return unseal(message.subject, message.headers, message.data, sequence=message.sequence)
    except MalformedEvent:
        return None
