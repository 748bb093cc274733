"""Which preset of a model is its default on the cards that there are. Pure.

What a card is sold as is less than what its driver reports: 24 GB are 24 * 10**9 bytes here, of a card with 24 * 2**30.
"""

from collections.abc import Iterable

from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset

GIGABYTE = 10**9


def has_card_presets(model: ModelDescriptor) -> bool:
    """Whether its default preset depends on the card: where one preset names a card, the first one does."""
    return bool(model.presets) and model.presets[0].card_gb is not None


def largest_card_bytes(model_id: str, fleet: Iterable[Heartbeat]) -> int | None:
    """Memory of the largest card whose runner has a model; None: no live runner with a card has it.

    A runner on a CPU has no card: its memory says nothing of how long a large render takes there.
    """
    able = (each.device for each in fleet if model_id in each.model_ids and each.device.kind != "cpu")
    return max((device.total_bytes for device in able), default=None)


def preset_for(model: ModelDescriptor, card_bytes: int | None) -> Preset:
    """The preset of the largest card that this one is at least as large as; for a smaller one, or none, the first.

    >>> from dreamforge.contracts.models.descriptor import VramProfile
    >>> sizes = {"width_px": 8, "height_px": 8, "steps": 1, "guidance_scale": 0}
    >>> presets = [Preset(name=f"p{gb}", card_gb=gb, **sizes) for gb in (8, 12, 24)]
    >>> none = VramProfile(resident_bytes=0, denoise_bytes_per_latent=0, decode_bytes_per_px=0)
    >>> model = ModelDescriptor(model_id="m", family="f", digest="0" * 64, vram=none, presets=presets)
    >>> [preset_for(model, card_bytes).name for card_bytes in (None, 6 * 2**30, 16 * 2**30, 24 * 2**30)]
    ['p8', 'p8', 'p12', 'p24']
    """
    fitting = [each for each in model.presets if (each.card_gb or 0) * GIGABYTE <= (card_bytes or 0)]
    return max(fitting, key=lambda each: each.card_gb or 0, default=model.presets[0])


def with_default_for(model: ModelDescriptor, card_bytes: int | None) -> ModelDescriptor:
    """The model with that preset first, where default presets stand."""
    default = preset_for(model, card_bytes)
    others = (each for each in model.presets if each is not default)
    return model.model_copy(update={"presets": (default, *others)})
