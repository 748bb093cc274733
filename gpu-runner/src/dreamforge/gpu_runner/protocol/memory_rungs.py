"""What can be done about a render that does not fit into memory, and how each of it holds the model."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

from dreamforge.contracts.models.descriptor import Value

Offload = Literal["none", "model", "group", "sequential"]


class Rung(StrEnum):
    """One means, in the order in which they are taken: those that change no pixel first, of these the quickest."""

    RELEASE = "release"
    SMALLER_BATCH = "smaller_batch"
    OFFLOAD_MODEL = "offload_model"
    OFFLOAD_GROUP = "offload_group"
    TILED_DECODE = "tiled_decode"
    FLOAT8_STORAGE = "float8_storage"


#: Those that hold the model in another way, and so go with a task; the others are done once.
HELD_RUNGS = frozenset({Rung.OFFLOAD_MODEL, Rung.OFFLOAD_GROUP, Rung.TILED_DECODE, Rung.FLOAT8_STORAGE})
#: Least memory last.
OFFLOADS: tuple[Offload, ...] = ("none", "model", "group", "sequential")


class Held(Value):
    """How a model is held in memory, apart from its precision."""

    offload: Offload = "none"
    vae_tiling: bool = False
    #: The denoiser's weights wait as 8-bit floats, and are widened layer by layer: other pixels.
    float8_storage: bool = False

    def after(self, rungs: Sequence[Rung]) -> "Held":
        """The same with these rungs taken; one that a tier has anyway changes nothing.

        >>> Held(offload="sequential").after([Rung.OFFLOAD_MODEL, Rung.TILED_DECODE])
        Held(offload='sequential', vae_tiling=True, float8_storage=False)
        """
        asked: list[Offload] = [self.offload]
        asked += ["model"] if Rung.OFFLOAD_MODEL in rungs else []
        asked += ["group"] if Rung.OFFLOAD_GROUP in rungs else []
        return Held(
            offload=max(asked, key=OFFLOADS.index),
            vae_tiling=self.vae_tiling or Rung.TILED_DECODE in rungs,
            float8_storage=self.float8_storage or Rung.FLOAT8_STORAGE in rungs,
        )
