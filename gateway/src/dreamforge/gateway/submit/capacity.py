"""Which runners can hold a request at all, by memory: what none can hold is refused, not queued forever. Pure."""

from collections.abc import Iterable
from operator import attrgetter

from dreamforge.contracts.errors import ModelTooLarge
from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.placement import Models, Needs, RunnerLoad, judge, least_bytes, tier_on
from dreamforge.contracts.replies import Fit


def require_fit(needs: Needs, models: Models, fleet: Iterable[Heartbeat]) -> None:
    """Refuse what no live runner that has the model (and the assets) could ever hold.

    If no runner has it, nothing is refused: one that has it may be starting.
    Errors: ModelTooLarge(model_id, needed_bytes, largest_bytes, runner_id), SizeNotSupported.
    """
    required = {needs.model_id, *needs.assets}
    able = [heartbeat for heartbeat in fleet if required.issubset(heartbeat.model_ids)]
    if not able:
        return
    needed, largest = (
        least_bytes(needs, models),
        max(able, key=lambda each: (each.budget_bytes, each.runner_id)),
    )
    if needed > largest.budget_bytes:
        raise ModelTooLarge(
            model_id=needs.model_id,
            width_px=needs.width_px,
            height_px=needs.height_px,
            needed_bytes=needed,
            largest_bytes=largest.budget_bytes,
            runner_id=largest.runner_id,
        )


def fits(needs: Needs, models: Models, fleet: Iterable[Heartbeat]) -> tuple[Fit, ...]:
    """Every live runner as the scheduler would judge it if it were idle: the tier it would use, or why it cannot."""
    return tuple(_fit(needs, models, heartbeat) for heartbeat in sorted(fleet, key=attrgetter("runner_id")))


def _fit(needs: Needs, models: Models, heartbeat: Heartbeat) -> Fit:
    refused = judge(needs, models, RunnerLoad(heartbeat)).refused
    tier = None if refused else tier_on(heartbeat, needs, models)
    return Fit(runner_id=heartbeat.runner_id, tier=tier.name if tier else None, refused=refused)
