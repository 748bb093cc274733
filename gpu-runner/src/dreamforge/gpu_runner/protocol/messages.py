"""The messages between supervisor and child, and their frames.

Every message is a frozen model whose `kind` names it on the wire; `Image` alone has a body, its file.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from dreamforge.contracts.events import FailureReason, WarningCode
from dreamforge.contracts.models.descriptor import Sha256, Tier, Value
from dreamforge.contracts.pictures.formats import ContentType
from dreamforge.contracts.validation import describe_validation_error, dotted
from dreamforge.gpu_runner.protocol.frames import Frame, FrameError
from dreamforge.gpu_runner.protocol.memory_rungs import Rung
from dreamforge.gpu_runner.protocol.recipe import Engine, Recipe
from dreamforge.gpu_runner.protocol.render_task import RenderTask


@dataclass(eq=False)
class BadMessage(FrameError):
    """A frame whose header is not one of our messages."""

    code = "bad_message"
    reason: str

    def __str__(self) -> str:
        return f"not a message of ours: {self.reason}"


# To the child


class Load(Value):
    """Have this model ready before its first job comes."""

    kind: Literal["load"] = "load"
    model_id: str
    path: str
    digest: Sha256
    #: How to hold it in memory; None: whole, in the runner's own precision.
    tier: Tier | None = None


class Render(Value):
    """Render these, images of several in one run where they can be.

    Each task is answered by StepDone and Image frames and one of Done, Failed, Cancelled.
    """

    kind: Literal["render"] = "render"
    tasks: tuple[RenderTask, ...] = Field(min_length=1)


class Cancel(Value):
    """Stop this task within one step; no answer if it is not known (any more)."""

    kind: Literal["cancel"] = "cancel"
    task_id: str


class Stop(Value):
    """Finish what has been asked, then leave with exit status 0."""

    kind: Literal["stop"] = "stop"


# From the child


class Starting(Value):
    """Where the start is: importing torch takes seconds and would look like a hang."""

    kind: Literal["starting"] = "starting"
    stage: Literal["import", "device"]
    elapsed_seconds: float


class Ready(Value):
    """The child takes tasks from here on."""

    kind: Literal["ready"] = "ready"
    engine: Engine
    total_bytes: int
    free_bytes: int
    driver: str
    #: Why this device and not the one asked for; empty if it is that one.
    note: str = ""
    #: As in its heartbeats.
    quantisations: dict[str, str] = Field(default={})


class Loading(Value):
    """A model is being read."""

    kind: Literal["loading"] = "loading"
    model_id: str


class ModelLoaded(Value):
    """A model is resident; `bytes` is what its parameters and buffers take."""

    kind: Literal["loaded"] = "loaded"
    model_id: str
    seconds: float
    bytes: int


class Unloaded(Value):
    """A model left the resident set, to make room for another or after running out of memory."""

    kind: Literal["unloaded"] = "unloaded"
    model_id: str


class LoadFailed(Value):
    """A model asked for by Load cannot be loaded; tasks that name it will fail the same way."""

    kind: Literal["load-failed"] = "load-failed"
    model_id: str
    reason: FailureReason
    message: str


class StepDone(Value):
    """One denoising step is over; `step` counts from 1, `image_index` from 0.

    Of images that are rendered in one run, one message for each task: `image_index` is its first one in this run.
    """

    kind: Literal["step"] = "step"
    task_id: str
    image_index: int
    step: int
    steps: int
    #: Since this image was begun.
    elapsed_seconds: float
    #: How many images of this task, and of all tasks, are in this run.
    together: int = Field(default=1, ge=1)
    run_size: int = Field(default=1, ge=1)
    #: What it looked like a step or so ago: a small JPEG as a data URI. Made beside the render, so never waited for.
    preview: str | None = None


class Warned(Value):
    """The render goes on, but not quite as its owner may expect."""

    kind: Literal["warned"] = "warned"
    task_id: str
    code: WarningCode
    message: str
    #: None: every image of the task.
    image_index: int | None = None
    words: tuple[str, ...] = ()


class Timings(Value):
    """How the seconds of one image were spent; of a run of several, `render_seconds` is its share."""

    render_seconds: float
    encode_seconds: float


class Image(Value):
    """One finished image; its file is the frame's body."""

    kind: Literal["image"] = "image"
    task_id: str
    image_index: int
    sha256: Sha256
    width_px: int
    height_px: int
    content_type: ContentType
    recipe: Recipe
    timings: Timings
    body: bytes = Field(default=b"", exclude=True, repr=False)


class BatchLearnt(Value):
    """How many images of a shape (see `contracts.fleet.batch_shape`) are rendered in one run from now on."""

    kind: Literal["batch-learnt"] = "batch-learnt"
    shape: str
    #: See `contracts.request.batch_key.step_work`.
    work: str = ""
    bound: int = Field(ge=1)
    #: Seconds an image and step, by the size of the batch: the least that were seen.
    seconds: dict[int, float]
    #: How many fit into memory, as far as a run did not; None: none has failed.
    fits: int | None = Field(default=None, ge=1)


class RungsLearnt(Value):
    """What the memory of this device needs to render a shape; `peak_bytes` as in Done."""

    kind: Literal["rungs-learnt"] = "rungs-learnt"
    shape: str
    rungs: tuple[Rung, ...] = Field(min_length=1)
    peak_bytes: int


class MemoryObserved(Value):
    """What a run of images of a shape, without assets, was seen to need in a tier.

    `peak_bytes` is with weights (see `Renderer.run_peak_bytes`), None: not measured. `exhausted`: it did not fit, and
    no rung was left.
    """

    kind: Literal["memory-observed"] = "memory-observed"
    shape: str
    #: Empty: of a model without any.
    tier: str = ""
    peak_bytes: int | None = Field(default=None, ge=0)
    #: How many images were in the run.
    images: int = Field(default=1, ge=1)
    exhausted: bool = False


class Done(Value):
    """Every image of the task has been sent."""

    kind: Literal["done"] = "done"
    task_id: str
    seconds: float
    #: Peak of device memory so far; on a CPU the peak of the process.
    peak_bytes: int


class Failed(Value):
    """The task ended before its last image; the child lives on unless the reason is child_crashed."""

    kind: Literal["failed"] = "failed"
    task_id: str
    reason: FailureReason
    message: str
    retryable: bool


class Cancelled(Value):
    """The task ended because it was cancelled; images that were finished before have been sent."""

    kind: Literal["cancelled"] = "cancelled"
    task_id: str


ToChild = Load | Render | Cancel | Stop
FromChild = (
    Starting
    | Ready
    | Loading
    | ModelLoaded
    | Unloaded
    | LoadFailed
    | StepDone
    | Warned
    | Image
    | BatchLearnt
    | RungsLearnt
    | MemoryObserved
    | Done
    | Failed
    | Cancelled
)

_TO_CHILD: TypeAdapter[ToChild] = TypeAdapter(Annotated[ToChild, Field(discriminator="kind")])
_FROM_CHILD: TypeAdapter[FromChild] = TypeAdapter(Annotated[FromChild, Field(discriminator="kind")])


def to_frame(message: ToChild | FromChild) -> Frame:
    """The frame that carries a message."""
    body = message.body if isinstance(message, Image) else b""
    return Frame(message.model_dump_json().encode(), body)


def _wrong_with(error: ValidationError) -> str:
    """On one line: only the first line of a reason is logged."""
    return "; ".join(f"{dotted(where)}: {what}" for where, what in describe_validation_error(error, maximum=3))


def to_child_from_frame(frame: Frame) -> ToChild:
    """The supervisor's message in a frame. Errors: BadMessage."""
    if frame.body:
        raise BadMessage(reason="no message to the child has a body")
    try:
        return _TO_CHILD.validate_json(frame.header)
    except ValidationError as error:
        raise BadMessage(reason=_wrong_with(error)) from error


def from_child_from_frame(frame: Frame) -> FromChild:
    """The child's message in a frame, with its body where it has one. Errors: BadMessage."""
    try:
        message = _FROM_CHILD.validate_json(frame.header)
    except ValidationError as error:
        raise BadMessage(reason=_wrong_with(error)) from error
    if isinstance(message, Image):
        return message.model_copy(update={"body": frame.body})
    if frame.body:
        raise BadMessage(reason=f"{message.kind} has no body")
    return message
