"""The registered models, each with the preset first that suits the cards of this installation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dreamforge.contracts.card_presets import has_card_presets, largest_card_bytes, with_default_for
from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.models.descriptor import ModelDescriptor


@dataclass(slots=True)
class CardPresets:
    """Gives the same descriptor again until a model, or the largest card that has it, is another.

    By its identity the rules of requests are kept.
    """

    _made: dict[str, tuple[ModelDescriptor, int | None, ModelDescriptor]] = field(default_factory=dict)

    def of(
        self, models: Mapping[str, ModelDescriptor], fleet: Callable[[], Mapping[str, Heartbeat]]
    ) -> Mapping[str, ModelDescriptor]:
        """The models as they are, where none has presets for cards. `fleet` is asked only then."""
        by_card = [each for each in models.values() if has_card_presets(each)]
        if not by_card:
            return models
        heartbeats = fleet().values()
        own = {model.model_id: self._for(model, largest_card_bytes(model.model_id, heartbeats)) for model in by_card}
        return {**models, **own}

    def _for(self, model: ModelDescriptor, card_bytes: int | None) -> ModelDescriptor:
        known = self._made.get(model.model_id)
        if known is None or known[0] is not model or known[1] != card_bytes:
            known = self._made[model.model_id] = (model, card_bytes, with_default_for(model, card_bytes))
        return known[2]
