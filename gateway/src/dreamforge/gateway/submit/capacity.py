"""Where a request could be painted at all, by size alone: refused at the door rather than queued for ever. Pure."""

from collections.abc import Iterable

from dreamforge.contracts.errors import ModelTooLarge
from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.placement import Models, Needs, RunnerLoad, judge, least_bytes, tier_for
from dreamforge.gateway.read.replies import Fit


def require_fit(needs: Needs, models: Models, fleet: Iterable[Heartbeat]) -> None:
    """Refuse what no live runner that has the model (and the assets) could ever hold.

    Where nobody has it, nothing is refused: a runner that has it may be on its way.
    Errors: ModelTooLarge(model_id, needed_bytes, largest_bytes, runner_id), SizeNotSupported.
    """
    wanted = {needs.model_id, *needs.assets}
    able = [beat for beat in fleet if wanted.issubset(beat.model_ids)]
    if not able:
        return
    needed, largest = least_bytes(needs, models), max(able, key=lambda beat: (beat.budget_bytes, beat.runner_id))
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
    """Every live runner, as the scheduler would judge it were it idle: the tier it would take, or why it cannot."""
    return tuple(_fit(needs, models, beat) for beat in sorted(fleet, key=lambda beat: beat.runner_id))


def _fit(needs: Needs, models: Models, beat: Heartbeat) -> Fit:
    refused = judge(needs, models, RunnerLoad(beat)).refused
    tier = None if refused else tier_for(needs, models, beat.budget_bytes)
    return Fit(runner_id=beat.runner_id, tier=tier.name if tier else None, refused=refused)
