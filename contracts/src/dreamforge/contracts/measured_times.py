"""What a runner has measured of its own speed, in the bounded form that its heartbeat carries."""

from pydantic import Field

from dreamforge.contracts.models.descriptor import Value

# Shapes and models that one heartbeat tells of, those that were used last: about 3 KiB of JSON at most.
SHAPES_MAX = 32


class MeasuredTimes(Value):
    """Medians of the last runs, by shape (see `contracts.fleet.batch_shape`). Empty: nothing was measured yet.

    A shape's size is that of the largest pass, and steps are counted at that size (`RenderRequest.steps_at_full_size`).
    """

    steps: dict[str, dict[int, float]] = Field(
        default={}, description="seconds an image and step, by model and size, and by how many images were in the run"
    )
    beside: dict[str, float] = Field(
        default={},
        description="seconds of the device that an image takes beside its steps: text encoding, decoding",
    )
    after: dict[str, float] = Field(
        default={},
        description="seconds an image takes once the device is done with it: its file, its signature, the upload",
    )
    loads: dict[str, float] = Field(default={}, description="seconds to load a model, by model id")
    load_bytes_per_second: float | None = Field(
        default=None, gt=0, description="how fast models are loaded, over the last loads"
    )
