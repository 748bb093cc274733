"""What a shape needs of a runner, computed once for all runners. Pure; the rule itself is in `contracts.placement`."""

from dataclasses import dataclass

from dreamforge.contracts.errors import SizeNotSupported
from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.placement import (
    Models,
    Needs,
    RunnerLoad,
    can_ever_take,
    has_own_memory,
    quantisation_refusal,
    required_bytes,
    required_on,
    tier_on,
)
from dreamforge.scheduler.planning.measured_pace import SizeOfModel


@dataclass(frozen=True, slots=True)
class ShapeNeeds:
    """`tiers_bytes`: peak memory by tier, the most comfortable first; empty where no runner can ever take the shape.

    `tiers_bytes_on_card`: the same on a device with a memory of its own.
    """

    shape: Needs
    size: SizeOfModel
    model_ids: frozenset[str]
    tiers_bytes: tuple[int, ...]
    tiers_bytes_on_card: tuple[int, ...]

    @staticmethod
    def of(shape: Needs, models: Models) -> "ShapeNeeds":
        """Those of a shape, whether its models are registered or not."""
        wanted = frozenset((shape.model_id, *shape.assets))
        try:
            tiers = models[shape.model_id].all_tiers if wanted <= models.keys() else ()
            need, on_card = (
                tuple(required_bytes(shape, models, tier, on_card=own) for tier in tiers) for own in (False, True)
            )
        except SizeNotSupported:
            need = on_card = ()
        return ShapeNeeds(shape, SizeOfModel.of(shape), wanted, need, on_card)

    @property
    def observed_names(self) -> tuple[str, ...]:
        """What peaks that count for it are observed for."""
        return (self.size.name, self.shape.memory_shape) if self.shape.quantisation else (self.size.name,)

    @property
    def least_bytes(self) -> int:
        """What the most frugal tier needs where nothing was observed."""
        return min(*self.tiers_bytes, *self.tiers_bytes_on_card)

    def bytes_on(self, load: RunnerLoad, model_ids: frozenset[str], models: Models) -> int | None:
        """What it needs on a runner that can load these models; None if that can never take it.

        As `placement.judge` finds it, which a property test compares.
        """
        if not self.tiers_bytes or not self.model_ids <= model_ids:
            return None
        if self.shape.quantisation and quantisation_refusal(self.shape, load.heartbeat):
            return None
        if load.memory is not None and any(name in load.memory.peaks for name in self.observed_names):
            return self._observed_bytes(load.heartbeat, models)
        budget_bytes, tiers_bytes = load.budget_bytes, self.tiers_bytes
        if self.shape.quantisation and has_own_memory(load.heartbeat):
            tiers_bytes = self.tiers_bytes_on_card
        for need_bytes in tiers_bytes:
            if need_bytes <= budget_bytes:
                return need_bytes
        return None

    def _observed_bytes(self, heartbeat: Heartbeat, models: Models) -> int | None:
        if not can_ever_take(self.shape, models, heartbeat):
            return None
        return required_on(heartbeat, self.shape, models, tier_on(heartbeat, self.shape, models))
