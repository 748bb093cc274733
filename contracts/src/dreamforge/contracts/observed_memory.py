"""What a runner has seen of the memory that renders need, in the bounded form that its heartbeat carries."""

from pydantic import Field, NonNegativeInt

from dreamforge.contracts.models.descriptor import Value, is_empty


class ObservedMemory(Value):
    """By shape (see `contracts.fleet.batch_shape`), those that were learnt last. Empty: nothing was seen yet.

    A peak is that of one image rendered alone, weights included and assets not. It counts for the tier that it was seen
    in, and for the rungs of the memory ladder that the shape needs there. Peaks and what further images take are by
    `contracts.fleet.memory_shape`: those of runs in eight bits stand apart.
    """

    peaks: dict[str, dict[str, NonNegativeInt]] = Field(
        default={}, description="bytes by model and size, and by tier; the tier of a model without any is empty"
    )
    further: dict[str, dict[str, NonNegativeInt]] = Field(
        default={},
        exclude_if=is_empty,
        description="bytes that each further image of a run takes, by model and size, and by tier",
    )
    rungs: dict[str, tuple[str, ...]] = Field(
        default={}, description="what is done so that a render fits, by model and size"
    )
    exhausted: tuple[str, ...] = Field(
        default=(), description="models and sizes that did not fit, whatever was done; not for long"
    )

    def further_bytes(self, shape: str, tier: str | None) -> int | None:
        """Of each further image in a tier; None: not seen."""
        return self.further.get(shape, {}).get(tier or "")

    def peak_bytes(self, shape: str, tier: str | None) -> int | None:
        """Of one image in a tier; None: not seen."""
        return self.peaks.get(shape, {}).get(tier or "")
