"""What can be done about a render that does not fit into memory, and how each of it holds the model."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

from pydantic import Field

from dreamforge.contracts.models.descriptor import QuantisedWeights, Value, is_none

Offload = Literal["none", "model", "group", "sequential"]


class Rung(StrEnum):
    """One means, in the order in which they are taken: those that change no pixel first, of these the quickest."""

    RELEASE = "release"
    SMALLER_BATCH = "smaller_batch"
    OFFLOAD_MODEL = "offload_model"
    OFFLOAD_GROUP = "offload_group"
    TILED_DECODE = "tiled_decode"
    FLOAT8_STORAGE = "float8_storage"
    QUANTISED_WEIGHTS = "quantised_weights"


#: Those that hold the model in another way, and so go with a task; the others are done once.
HELD_RUNGS = frozenset(Rung) - {Rung.RELEASE, Rung.SMALLER_BATCH}
#: The only width that there is a rung for: 8 bits are 8-bit floats already, or what a request computes in.
QUANTISED_TO: QuantisedWeights = "uint4"
#: Least memory last.
OFFLOADS: tuple[Offload, ...] = ("none", "model", "group", "sequential")


class Held(Value):
    """How a model is held in memory, apart from its precision."""

    offload: Offload = "none"
    vae_tiling: bool = False
    #: The denoiser's weights wait as 8-bit floats, and are widened layer by layer: other pixels.
    float8_storage: bool = False
    #: The denoiser's weights are quantised to this, because a request says so or in place of 8-bit floats; None: they
    #: are as in its files.
    quantised: QuantisedWeights | None = Field(default=None, exclude_if=is_none)

    def after(self, rungs: Sequence[Rung]) -> "Held":
        """The same with these rungs taken; one that a tier has anyway changes nothing.

        >>> Held(offload="sequential").after([Rung.OFFLOAD_MODEL, Rung.TILED_DECODE])
        Held(offload='sequential', vae_tiling=True, float8_storage=False, quantised=None)
        """
        asked: list[Offload] = [self.offload]
        asked += ["model"] if Rung.OFFLOAD_MODEL in rungs else []
        asked += ["group"] if Rung.OFFLOAD_GROUP in rungs else []
        quantised = QUANTISED_TO if Rung.QUANTISED_WEIGHTS in rungs else self.quantised
        return Held(
            offload=max(asked, key=OFFLOADS.index),
            vae_tiling=self.vae_tiling or Rung.TILED_DECODE in rungs,
            float8_storage=quantised is None and (self.float8_storage or Rung.FLOAT8_STORAGE in rungs),
            quantised=quantised,
        )
