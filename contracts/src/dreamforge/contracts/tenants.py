"""What a tenant may use, and its share of the fleet: the tenant aggregate. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from dreamforge.contracts.installation_events import TenantConfigured, TenantEvent
from dreamforge.contracts.quotas import NO_QUOTAS, Quotas
from dreamforge.contracts.request.values import Determinism

Metadata = Literal["full", "none"]


@dataclass(frozen=True, slots=True)
class TenantState:
    """One tenant, folded. A quota that is None is that of the installation. `weight`: its share beside others.

    `earlier`: the weights before it, each with the time until which it counted, in order.
    `selected_model`: that of requests over interfaces which select a model first and name none later.
    `metadata`: whether its pictures are downloaded with their recipes, where a request does not say.
    `determinism`: of requests that do not say; None: as their presets do.
    """

    quotas: Quotas = NO_QUOTAS
    weight: int = 1
    earlier: tuple[tuple[datetime, int], ...] = ()
    selected_model: str | None = None
    metadata: Metadata = "full"
    determinism: Determinism | None = None

    def weight_at(self, at: datetime) -> int:
        """The weight that counted at a time: a fold of the past counts with the weights of the past."""
        return next((weight for until, weight in self.earlier if at < until), self.weight)


UNCONFIGURED = TenantState()


@dataclass(frozen=True, slots=True)
class ConfigureTenant:
    """`quotas` has the ones that change: None takes that of the installation again.

    `weight`, `selected_model`, `metadata` and `determinism`: None leaves it as it is.
    """

    now: datetime
    quotas: Mapping[str, int | float | None]
    weight: int | None = None
    configured_by: str = "operator"
    selected_model: str | None = None
    metadata: Metadata | None = None
    determinism: Determinism | None = None


def decide_tenant(state: TenantState, command: ConfigureTenant) -> tuple[TenantEvent, ...]:
    """What follows from a command; () when nothing does. Errors: pydantic's ValidationError for a wrong quota."""
    quotas = Quotas.model_validate(state.quotas.model_dump() | dict(command.quotas))
    weight = state.weight if command.weight is None else command.weight
    model = command.selected_model or state.selected_model
    metadata = command.metadata or state.metadata
    determinism = command.determinism or state.determinism
    now = (state.quotas, state.weight, state.selected_model, state.metadata, state.determinism)
    if (quotas, weight, model, metadata, determinism) == now:
        return ()
    return (
        TenantConfigured(
            at=command.now,
            quotas=quotas,
            weight=weight,
            configured_by=command.configured_by,
            selected_model=model,
            metadata="none" if metadata == "none" else None,
            determinism=determinism,
        ),
    )


def evolve_tenant(state: TenantState, event: TenantEvent) -> TenantState:
    """The state after one more fact. Errors: TypeError for an event that is not of this aggregate."""
    match event:
        case TenantConfigured():
            before = () if event.weight == state.weight else ((event.at, state.weight),)
            earlier = (*state.earlier, *before)
            metadata = event.metadata or "full"
            return TenantState(event.quotas, event.weight, earlier, event.selected_model, metadata, event.determinism)
    raise TypeError(type(event).__name__)
