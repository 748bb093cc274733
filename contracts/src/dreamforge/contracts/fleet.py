"""The fleet as values: devices, heartbeats and the lease of a runner."""

from typing import Literal

from pydantic import AwareDatetime, Field

from dreamforge.contracts.measured_times import MeasuredTimes
from dreamforge.contracts.models.descriptor import Token, Value
from dreamforge.contracts.observed_memory import ObservedMemory

# A job must run elsewhere within 5 s of its runner's death: a lease of 3 s (the server may end it 0.3 s late) leaves
# time to decide and start. Four heartbeats within a lease, so that one or two may be lost.
HEARTBEAT_SECONDS = 0.75
LEASE_SECONDS = 3
# Images of a new shape in one run, until it is known what more of them save.
FIRST_BATCH = 2


class Device(Value):
    """What a runner renders on. `note` states why it is a CPU when a GPU was expected."""

    kind: str = Field(description="cuda, mps or cpu")
    name: str
    driver: str = ""
    total_bytes: int = Field(ge=0)
    note: str = ""


class DeviceHealth(Value):
    """What the driver says of a device.

    `degraded`: it renders, and a person should look at it; `fenced`: it may not render.
    """

    state: Literal["healthy", "degraded", "fenced"] = "healthy"
    reason: str = ""
    throttled: bool = Field(default=False, description="it is slower than it could be: heat, or a lack of power")


class ActiveAttempt(Value):
    """An attempt that a runner has taken and not finished."""

    job_id: str
    attempt: int


class NextModel(Value):
    """What a busy runner will probably have to load next. Not an event: it may be lost, and nothing depends on it."""

    model_id: Token


class Heartbeat(Value):
    """The state of a runner as it reports it, in the KV bucket `runners` under its id until the lease ends.

    `budget_bytes` is the memory that renders may use: what is free plus what the runner itself holds.
    """

    runner_id: Token
    instance_id: str
    at: AwareDatetime
    renderer: str
    device: Device
    budget_bytes: int = Field(ge=0)
    free_bytes: int = Field(ge=0)
    slots: int = Field(ge=1)
    draining: bool = Field(default=False, description="it takes no new work, because it starts or because it ends")
    health: DeviceHealth = DeviceHealth()
    starting: bool = Field(default=False, description="its renderer starts, at first or again after a fault")
    model_ids: tuple[str, ...] = Field(default=(), description="what it can load")
    resident_model_ids: tuple[str, ...] = Field(default=(), description="what is loaded now")
    active: tuple[ActiveAttempt, ...] = ()
    ending: tuple[ActiveAttempt, ...] = Field(
        default=(),
        description="those of them that count for no slot: rendered and not yet recorded, or nearly rendered",
    )
    times: MeasuredTimes = Field(default=MeasuredTimes(), description="how fast it is, as far as it has measured")
    memory: ObservedMemory = Field(default=ObservedMemory(), description="what it has seen renders need")
    quantisations: dict[str, str] = Field(
        default={},
        description="each `quantisation` of requests that it knows, with why it cannot compute so; empty: it can",
    )
    batch_max: int = Field(default=1, ge=1, description="most images it renders in one run; 1: each alone")
    batch_bounds: dict[str, int] = Field(
        default={}, description="images it renders in one run, as far as it has learnt, by model and size"
    )

    def batch_bound(self, shape: str) -> int:
        """How many images of a shape (see `batch_shape`) it renders in one run."""
        return self.batch_bounds.get(shape, min(FIRST_BATCH, self.batch_max))


def batch_shape(model_id: str, width_px: int, height_px: int, frames: int = 1) -> str:
    """What a bound on images in one run is learnt for.

    >>> batch_shape("tiny", 64, 32), batch_shape("wan", 64, 32, 81)
    ('tiny 64x32', 'wan 64x32x81')
    """
    return f"{model_id} {width_px}x{height_px}" + (f"x{frames}" if frames > 1 else "")


def memory_shape(shape: str, quantisation: str | None) -> str:
    """What peaks are observed for: a shape, and what its products are computed in.

    >>> memory_shape("tiny 64x32", None), memory_shape("tiny 64x32", "int8")
    ('tiny 64x32', 'tiny 64x32 int8')
    """
    return f"{shape} {quantisation}" if quantisation else shape
