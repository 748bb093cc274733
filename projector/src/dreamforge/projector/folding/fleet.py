"""Runners and models as rows: few, small, and each event replaces or amends one row. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from pydantic import TypeAdapter

from dreamforge.contracts.installation_events import (
    ModelEvent,
    ModelRegistered,
    ModelVerified,
    RunnerEvent,
    RunnerRegistered,
    RunnerStopped,
)
from dreamforge.contracts.log.envelope import Recorded

MODEL_IDS = TypeAdapter(tuple[str, ...])


@dataclass(frozen=True, slots=True)
class RunnerRow:
    """A row of `runners`."""

    runner_id: str
    sequence: int
    instance_id: str
    status: str
    renderer: str
    device: str
    slots: int
    model_ids: str
    registered_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A row of `models`; `registered_at` and `first_sequence` are those of its first registration."""

    model_id: str
    sequence: int
    first_sequence: int
    family: str
    digest: str
    descriptor: str
    status: str
    registered_at: datetime


def project_runners(runners: Mapping[str, RunnerRow], records: Iterable[Recorded]) -> dict[str, RunnerRow]:
    """The runners that changed. An event about an instance that is no longer the current one changes nothing."""
    changed: dict[str, RunnerRow] = {}
    for recorded in records:
        event, runner_id = recorded.event, recorded.entity_id
        assert isinstance(event, RunnerEvent)
        before = changed.get(runner_id) or runners.get(runner_id)
        if before is not None and recorded.sequence <= before.sequence:
            continue
        if isinstance(event, RunnerRegistered):
            changed[runner_id] = _registered(runner_id, recorded.sequence, event)
        elif before is not None and before.instance_id == event.instance_id:
            status = "stopped" if isinstance(event, RunnerStopped) else "lost"
            changed[runner_id] = replace(before, sequence=recorded.sequence, status=status, changed_at=event.at)
    return changed


def _registered(runner_id: str, sequence: int, event: RunnerRegistered) -> RunnerRow:
    return RunnerRow(
        runner_id=runner_id,
        sequence=sequence,
        instance_id=event.instance_id,
        status="online",
        renderer=event.renderer,
        device=event.device.model_dump_json(),
        slots=event.slots,
        model_ids=MODEL_IDS.dump_json(event.model_ids).decode(),
        registered_at=event.at,
        changed_at=event.at,
    )


def project_models(models: Mapping[str, ModelRow], records: Iterable[Recorded]) -> dict[str, ModelRow]:
    """The models that changed: the newest descriptor, and the sequence of the first registration."""
    changed: dict[str, ModelRow] = {}
    for recorded in records:
        event, model_id = recorded.event, recorded.entity_id
        assert isinstance(event, ModelEvent)
        before = changed.get(model_id) or models.get(model_id)
        if before is not None and recorded.sequence <= before.sequence:
            continue
        if isinstance(event, ModelRegistered):
            changed[model_id] = _described(before, recorded.sequence, event)
        elif before is not None:
            changed[model_id] = replace(before, sequence=recorded.sequence, status=_status(before, event))
    return changed


def _described(before: ModelRow | None, sequence: int, event: ModelRegistered) -> ModelRow:
    descriptor = event.descriptor
    unchanged = before is not None and before.status == "verified" and before.digest == descriptor.digest
    return ModelRow(
        model_id=descriptor.model_id,
        sequence=sequence,
        first_sequence=before.first_sequence if before else sequence,
        family=descriptor.family,
        digest=descriptor.digest,
        descriptor=descriptor.model_dump_json(),
        status="verified" if unchanged else "registered",
        registered_at=before.registered_at if before else event.at,
    )


def _status(before: ModelRow, event: ModelEvent) -> str:
    """The status after an event that changes no descriptor; a verification of another digest changes nothing."""
    if not isinstance(event, ModelVerified):
        return "removed"
    return "verified" if event.digest == before.digest and before.status != "removed" else before.status
