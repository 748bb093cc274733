"""Which runners can take a request at all: what none can hold, or compute, is refused, not queued forever. Pure."""

from collections.abc import Iterable
from operator import attrgetter

from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.placement import Models, Needs, RunnerLoad, judge, least_on, quantisation_refusal, tier_on
from dreamforge.contracts.replies import Fit
from dreamforge.contracts.request.errors import ModelTooLarge, QuantisationUnavailable


def require_fit(needs: Needs, models: Models, fleet: Iterable[Heartbeat]) -> None:
    """Refuse what no live runner that has the model (and the assets) could ever compute, or hold.

    By what a runner has observed, else by the estimate, in the tier that needs least. If no runner has it, nothing is
    refused: one that has it may be starting.
    Errors: QuantisationUnavailable(model_id, quantisation, runner_id, because), SizeNotSupported,
    ModelTooLarge(model_id, needed_bytes, tier, largest_bytes, runner_id).
    """
    required = {needs.model_id, *needs.assets}
    able = _able(needs, [heartbeat for heartbeat in fleet if required.issubset(heartbeat.model_ids)])
    if not able:
        return
    if any(tier_on(heartbeat, needs, models) is not None for heartbeat in able):
        return
    largest = max(able, key=lambda each: (each.budget_bytes, each.runner_id))
    needed_bytes, tier = least_on(largest, needs, models)
    raise ModelTooLarge(
        model_id=needs.model_id,
        width_px=needs.width_px,
        height_px=needs.height_px,
        needed_bytes=needed_bytes,
        largest_bytes=largest.budget_bytes,
        runner_id=largest.runner_id,
        tier=tier.name,
    )


def _able(needs: Needs, have: list[Heartbeat]) -> list[Heartbeat]:
    """Those of the runners with the model that may compute as it is wanted: one that starts does not know yet.

    Errors: QuantisationUnavailable where they all cannot.
    """
    whys = {each.runner_id: "" if each.starting else quantisation_refusal(needs, each) for each in have}
    able = [each for each in have if not whys[each.runner_id]]
    if have and not able:
        runner_id, because = min(whys.items())
        raise QuantisationUnavailable(
            model_id=needs.model_id, quantisation=needs.quantisation, runner_id=runner_id, because=because
        )
    return able


def fits(needs: Needs, models: Models, fleet: Iterable[Heartbeat]) -> tuple[Fit, ...]:
    """Every live runner as the scheduler would judge it if it were idle: the tier it would use, or why it cannot."""
    return tuple(_fit(needs, models, heartbeat) for heartbeat in sorted(fleet, key=attrgetter("runner_id")))


def _fit(needs: Needs, models: Models, heartbeat: Heartbeat) -> Fit:
    refused = judge(needs, models, RunnerLoad(heartbeat)).refused
    tier = None if refused else tier_on(heartbeat, needs, models)
    return Fit(runner_id=heartbeat.runner_id, tier=tier.name if tier else None, refused=refused)
