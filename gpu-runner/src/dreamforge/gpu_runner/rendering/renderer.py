"""What every renderer offers the worker, and how it says that it cannot.

A renderer makes one image, or one batch, at a time and knows nothing of frames, sockets or jobs.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.events import FailureReason, WarningCode
from dreamforge.contracts.models.descriptor import Dtype, QuantisedWeights, Tier
from dreamforge.gpu_runner.protocol.memory_rungs import Held, Offload, Rung
from dreamforge.gpu_runner.protocol.recipe import Engine, Recipe
from dreamforge.gpu_runner.protocol.render_task import RenderTask, TaskImage


class OnStep(Protocol):
    """Called after each step; raises RenderCancelled to stop the render."""

    def __call__(self, step: int, steps: int, preview: str | None = None, /) -> None:
        """Step from 1, steps in all, and what the image looked like a little earlier: a data URI."""


class OnRunStep(Protocol):
    """Called after each step of a run of several images; raises RenderCancelled to stop it."""

    def __call__(self, step: int, steps: int, previews: Mapping[int, str], /) -> None:
        """Step from 1, steps in all, and what images looked like a little earlier, by place: data URIs."""


#: Whether the same task may succeed at another time or on another runner.
RETRYABLE: dict[FailureReason, bool] = {
    FailureReason.OUT_OF_MEMORY: True,
    FailureReason.INVALID_REQUEST: False,
    FailureReason.MODEL_MISSING: True,
    FailureReason.MODEL_BROKEN: False,
    FailureReason.CHILD_CRASHED: True,
    FailureReason.INTERNAL: True,
}


class RenderCancelled(Exception):
    """Raised from the step callback: it unwinds the pipeline and leaves it usable for the next task."""


@dataclass(eq=False)
class RenderFailed(ForgeError):
    """A task cannot be finished, with the reason as the log will have it."""

    code = "render_failed"
    reason: FailureReason
    message: str
    #: Models that left the memory because of it.
    released: tuple[str, ...] = ()

    @property
    def retryable(self) -> bool:
        """Whether another attempt makes sense."""
        return RETRYABLE[self.reason]

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


@dataclass(frozen=True, slots=True)
class RenderWarning:
    """What the owner of a task should know, although it goes on."""

    code: WarningCode
    message: str
    words: tuple[str, ...] = ()


def merged(warnings: Iterable[RenderWarning]) -> tuple[RenderWarning, ...]:
    """One warning of a code, as the log has them: the messages and the words of all of that code."""
    by_code: dict[WarningCode, list[RenderWarning]] = {}
    for warning in warnings:
        by_code.setdefault(warning.code, []).append(warning)
    return tuple(
        RenderWarning(
            code, "; ".join(each.message for each in same), tuple(word for each in same for word in each.words)
        )
        for code, same in by_code.items()
    )


@dataclass(frozen=True, slots=True)
class RenderedImage:
    """One image as rows ready for `encode_png`, and the recipe that it was made from."""

    #: height_px rows of 1 + 3 * width_px bytes, see `png.encode_png`; of a video the RGB bytes of its frames.
    scanlines: bytes
    recipe: Recipe
    warnings: tuple[RenderWarning, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelPlacement:
    """How a model is held in memory: a tier without its name, and rungs. None: the runner's own precision."""

    dtype: Dtype | None = None
    offload: Offload = "none"
    vae_tiling: bool = False
    float8_storage: bool = False
    quantised: QuantisedWeights | None = None

    @classmethod
    def of(cls, dtype: Dtype | None, held: Held) -> "ModelPlacement":
        """A model held that way."""
        return cls(dtype, held.offload, held.vae_tiling, held.float8_storage, held.quantised)


@dataclass(frozen=True, slots=True)
class ModelKey:
    """Which weights: two folders with the same content are still two, the same folder changed is another."""

    model_id: str
    path: Path
    digest: str
    placement: ModelPlacement = ModelPlacement()

    @classmethod
    def of_asset(cls, model_id: str, task: RenderTask) -> "ModelKey":
        """Of what a task needs beside its model."""
        files = task.assets[model_id]
        return cls(model_id, Path(files.path), files.digest)

    @classmethod
    def of(cls, model_id: str, path: str, digest: str, tier: Tier | None) -> "ModelKey":
        """A model as a message names it."""
        held = Held(offload=tier.offload, vae_tiling=tier.vae_tiling) if tier else Held()
        return cls(model_id, Path(path), digest, ModelPlacement.of(tier.dtype if tier else None, held))

    @classmethod
    def of_task(cls, task: RenderTask) -> "ModelKey":
        """The model that a task is rendered with."""
        placement = ModelPlacement.of(task.tier.dtype if task.tier else None, task.held)
        return cls(task.request.model_id, Path(task.model.path), task.model.digest, placement)


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """The device in use when the child became ready, for its Ready message."""

    total_bytes: int
    free_bytes: int
    driver: str
    note: str
    #: Each way to compute quantised, with why it cannot be done here; empty: it can.
    quantisations: Mapping[str, str] = field(default_factory=dict)


class Renderer(Protocol):
    """Turns tasks into pixels."""

    @property
    def engine(self) -> Engine:
        """What renders: goes into every recipe."""
        ...

    @property
    def instant(self) -> bool:
        """Whether steps take no time worth watching: then only the last one of an image is reported."""
        ...

    def device_report(self) -> DeviceReport:
        """What the device is and has, now."""
        ...

    def is_resident(self, model: ModelKey) -> bool:
        """Whether `render` would begin at once."""
        ...

    def load(self, model: ModelKey) -> tuple[int, tuple[str, ...]]:
        """Make a model resident; bytes it takes, and ids of models that had to leave. Errors: RenderFailed."""
        ...

    def warnings(self, task: RenderTask) -> tuple[RenderWarning, ...]:
        """What its owner should know before the first image, once its model is resident. Errors: RenderFailed."""
        ...

    def rung_refusals(self, task: RenderTask) -> Mapping[Rung, str]:
        """What cannot be done to render this task in less memory, and why."""
        ...

    def render(self, task: RenderTask, seed: int, on_step: OnStep) -> RenderedImage:
        """One image, alone. Errors: RenderFailed; whatever `on_step` raises passes through."""
        ...

    def renders_together(self, task: RenderTask) -> bool:
        """Whether images of this task can be in one run with others; no while its model is not resident."""
        ...

    def prompt_form(self, task: RenderTask) -> Hashable:
        """What the prompts of one run have in common beside `run_key`, for a task of a resident model."""
        ...

    def render_together(self, images: Sequence[TaskImage], on_step: OnRunStep) -> Sequence[RenderedImage | None]:
        """Two or more images of equal `run_key` and `prompt_form` in one run.

        What is beside an image decides none of its bytes.

        None for an image that came out black or not at all. Errors: as `render`.
        """
        ...

    def encode_ahead(self, task: RenderTask) -> None:
        """Between two steps of a run: a task that comes next, of which the text may be encoded beside the steps."""
        ...

    def work_seconds(self) -> float:
        """A clock of what the device has worked, to compare runs by; on a CPU that of other programs does not count."""
        ...

    def start_peak(self) -> None:
        """The next run begins: its peak is measured from here."""
        ...

    def run_peak_bytes(self, task: RenderTask) -> int | None:
        """The most that the last run took, with the weights of its model that stay on the device; None: not measured.

        `task` is one of that run. What other models hold is not in it.
        """
        ...

    def peak_bytes(self) -> int:
        """The most memory the device has held for us so far."""
        ...


def first_line(error: BaseException) -> str:
    """What an error says, without the pages that torch and diffusers add to it."""
    return str(error).strip().split("\n", 1)[0]
