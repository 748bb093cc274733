"""The facts about jobs, as versioned frozen payloads; those about the installation are in `installation_events`.

An event's `TYPE` is its CloudEvents type and never changes meaning: a new shape is a new version with an
upcaster in `envelope`. `TOKEN` is the word it has in its subject. `at` is when it was decided (UTC).
"""

from enum import StrEnum
from typing import Any, ClassVar

from pydantic import AwareDatetime, Field, ValidationInfo, field_validator

from dreamforge.contracts.failure_reason import FailureReason as FailureReason
from dreamforge.contracts.models.descriptor import Sha256, Token, Value, is_none, is_one
from dreamforge.contracts.request.batch import BatchPlace
from dreamforge.contracts.request.render_request import Deadlines, RenderRequest
from dreamforge.contracts.request.values import Seed
from dreamforge.contracts.request.workflow import Workflow
from dreamforge.contracts.stored_objects import object_key


class EstimateSource(StrEnum):
    """Where an expected time comes from: measured there, scaled from another measurement, or guessed."""

    MEASURED = "measured"
    SCALED = "scaled"
    GUESSED = "guessed"


class Candidate(Value):
    """One runner as the scheduler judged it for one job: a score, or the reason it was refused."""

    runner_id: str
    score: float | None = None
    refused: str | None = None
    tier: str | None = Field(default=None, exclude_if=is_none, description="how the model would fit there")
    reasons: tuple[str, ...] = ()
    ends_in_seconds: float | None = Field(
        default=None, exclude_if=is_none, description="when the job would have ended there, from the decision on"
    )
    estimate: EstimateSource | None = Field(default=None, exclude_if=is_none, description="what that follows from")


class Decision(Value):
    """Why a job went where it went: recorded with the assignment and never recomputed."""

    waited_seconds: float
    effective_priority: float
    queue_length: int
    required_bytes: int
    candidates: tuple[Candidate, ...] = Field(description="best first, then the refused, up to a bound")
    candidates_total: int = Field(default=0, ge=0, description="runners there were, listed or not")
    starts_in_seconds: float | None = Field(
        default=None, exclude_if=is_none, description="when its first step was expected, from the decision on"
    )
    ends_in_seconds: float | None = Field(
        default=None, exclude_if=is_none, description="when it was expected to end, from the decision on"
    )
    estimate: EstimateSource | None = Field(
        default=None,
        exclude_if=is_none,
        description="what this follows from; absent: nothing was measured",
    )

    @property
    def promised_seconds(self) -> float | None:
        """When it is to end, from the decision on, where that follows from measurements; None otherwise."""
        return None if self.estimate is EstimateSource.GUESSED else self.ends_in_seconds


class Event(Value):
    """Base of every event payload."""

    TYPE: ClassVar[str]
    TOKEN: ClassVar[str]
    at: AwareDatetime


class JobEvent(Event):
    """An event of the job aggregate, on `forge.jobs.{job_id}.{attempt}.{TOKEN}[.{detail}][.{written_by}]`."""

    attempt: int = Field(default=0, ge=0)

    def detail(self) -> str | None:
        """The subject's last token, where one attempt can have several events of this kind."""
        return None


class AttemptEvent(JobEvent):
    """What a runner may say of an attempt. Its subject then ends in the runner: the server's permissions vouch for it.

    An event of a service has no writer, and neither has any of a release before 2026-11-27.
    """

    written_by: Token | None = Field(
        default=None, exclude_if=is_none, description="the runner that wrote it; absent: a service"
    )


class JobRequested(JobEvent):
    """A client was promised (202) that this job reaches exactly one terminal state."""

    TYPE = "dreamforge.job.requested.v1"
    TOKEN = "requested"
    tenant: Token
    priority: int = Field(default=5, ge=0, le=9, description="9 is the most urgent")
    request: RenderRequest
    idempotency_key: str | None = None
    fingerprint: str | None = Field(
        default=None,
        exclude_if=is_none,
        description="hash of the body sent with the key: recognises a repeat whatever the defaults are by then",
    )
    deadlines: Deadlines | None = Field(default=None, exclude_if=is_none)
    written_prompt: str | None = Field(
        default=None, exclude_if=is_none, description="the prompt as it was sent, where LoRA tags were taken out of it"
    )
    batch: BatchPlace | None = Field(
        default=None, exclude_if=is_none, description="its place among the jobs that were requested with it"
    )
    workflow: Workflow | None = Field(
        default=None, exclude_if=is_none, description="the ComfyUI workflow that the request was translated from"
    )


class RenderGroup(Value):
    """Jobs that were given to a runner at once, to be rendered together."""

    group_id: str
    jobs: int = Field(ge=2, description="how many there are, this one included")


class JobAssigned(JobEvent):
    """The scheduler gave an attempt to a runner instance; the subject ends in the runner."""

    TYPE = "dreamforge.job.assigned.v1"
    TOKEN = "assigned"
    attempt: int = Field(ge=1)
    runner_id: Token
    instance_id: str
    preset: Token
    estimated_vram_bytes: int = Field(ge=0)
    decision: Decision
    tier: Token | None = Field(default=None, exclude_if=is_none, description="which tier of the model to load")
    group: RenderGroup | None = Field(
        default=None, exclude_if=is_none, description="the jobs that are rendered together with this one"
    )

    def detail(self) -> str:
        return self.runner_id


class JobStarted(AttemptEvent):
    """The runner's fence: from here on, only this attempt can finish the job."""

    TYPE = "dreamforge.job.started.v1"
    TOKEN = "started"
    attempt: int = Field(ge=1)
    runner_id: Token
    instance_id: str


class ArtifactStored(AttemptEvent):
    """One image is finished: in the object store under its content hash, with the whole recipe to render it again.

    It is shown from then on and stays, however its attempt and its job end; each index of a job is stored once.
    """

    TYPE = "dreamforge.job.artifact-stored.v1"
    TOKEN = "artifact"
    attempt: int = Field(ge=1)
    index: int = Field(ge=0)
    sha256: Sha256
    object_key: str = Field(
        default="", validate_default=True, description="follows from sha256; an event that says another is malformed"
    )
    size_bytes: int = Field(ge=1)
    content_type: str
    width_px: int
    height_px: int
    seed: Seed
    recipe: dict[str, Any]  # Any: free JSON; its shape belongs to the renderer and only grows

    def detail(self) -> str:
        return str(self.index)

    @field_validator("object_key")
    @classmethod
    def _key_of_the_hash(cls, value: str, info: ValidationInfo) -> str:
        key = object_key(info.data.get("sha256", ""))
        if value not in ("", key):
            raise ValueError(f"object_key is not {key}, which follows from sha256")
        return key


class WarningCode(StrEnum):
    """What the owner of an image should know although the job goes on."""

    UNKNOWN_WORDS = "unknown_words"
    PROMPT_CUT = "prompt_cut"
    PRECISION_RAISED = "precision_raised"
    IMAGE_BLACK = "image_black"
    WEIGHTS_IGNORED = "weights_ignored"
    KEYS_IGNORED = "keys_ignored"
    SETTINGS_IGNORED = "settings_ignored"
    INPUT_CONVERTED = "input_converted"
    # Memory ran out, and the render went on with this means.
    MEMORY_RELEASED = "memory_released"
    MEMORY_SMALLER_BATCH = "memory_smaller_batch"
    MEMORY_OFFLOAD_MODEL = "memory_offload_model"
    MEMORY_OFFLOAD_GROUP = "memory_offload_group"
    MEMORY_TILED_DECODE = "memory_tiled_decode"
    MEMORY_FLOAT8_STORAGE = "memory_float8_storage"
    MEMORY_QUANTISED_WEIGHTS = "memory_quantised_weights"
    # The same was allowed and needed, and could not be done.
    MEMORY_NOT_QUANTISED = "memory_not_quantised"
    # It is rendered without one, because the model or the machine cannot have it.
    OPTIMISATION_LEFT_OUT = "optimisation_left_out"


class JobWarned(AttemptEvent):
    """The job goes on, but not quite as its owner may expect. At most one of a code for each image of an attempt."""

    TYPE = "dreamforge.job.warned.v1"
    TOKEN = "warned"
    attempt: int = Field(ge=1)
    code: WarningCode
    message: str
    image_index: int | None = Field(default=None, ge=0, description="None: all of them")
    words: tuple[str, ...] = Field(default=(), description="the words that it is about")

    def detail(self) -> str:
        return self.code if self.image_index is None else f"{self.code}-{self.image_index}"


class AttemptFailed(AttemptEvent):
    """One attempt ended without all of its images. `retry_at` is set when another one will follow."""

    TYPE = "dreamforge.job.attempt-failed.v1"
    TOKEN = "attempt-failed"
    attempt: int = Field(ge=1)
    runner_id: Token
    reason: FailureReason
    retryable: bool
    message: str
    retry_at: AwareDatetime | None = None


class JobSucceeded(AttemptEvent):
    """Terminal: every image is stored and visible."""

    TYPE = "dreamforge.job.succeeded.v1"
    TOKEN = "succeeded"
    attempt: int = Field(ge=1)
    artifacts: tuple[Sha256, ...]
    render_seconds: float = Field(ge=0)


class JobFailed(AttemptEvent):
    """Terminal: no further attempt will be made. Images that were stored before stay."""

    TYPE = "dreamforge.job.failed.v1"
    TOKEN = "failed"
    reason: FailureReason
    message: str


class CancelRequested(JobEvent):
    """A client asked for the job to stop. It wins over a finish that comes after it in the log."""

    TYPE = "dreamforge.job.cancel-requested.v1"
    TOKEN = "cancel-requested"
    requested_by: str = "client"


class JobCancelled(AttemptEvent):
    """Terminal: the job was stopped on request, at `stage`. Images that were stored before stay."""

    TYPE = "dreamforge.job.cancelled.v1"
    TOKEN = "cancelled"
    stage: str


class JobHeld(JobEvent):
    """The job must not be assigned until it is released. An attempt that a runner has goes on; its retry waits."""

    TYPE = "dreamforge.job.held.v1"
    TOKEN = "held"
    requested_by: str = "client"
    number: int = Field(default=1, ge=1, description="which hold of the job this is, from 1")

    def detail(self) -> str:
        return str(self.number)


class JobReleased(JobEvent):
    """The job may be assigned again."""

    TYPE = "dreamforge.job.released.v1"
    TOKEN = "released"
    requested_by: str = "client"
    number: int = Field(default=1, ge=1, description="which hold of the job this ends, from 1")

    def detail(self) -> str:
        return str(self.number)


class JobPriorityChanged(JobEvent):
    """The owner gave the job another priority; it counts from the next plan on."""

    TYPE = "dreamforge.job.priority-changed.v1"
    TOKEN = "priority-changed"
    priority: int = Field(ge=0, le=9, description="9 is the most urgent")
    requested_by: str = "client"
    number: int = Field(default=1, ge=1, description="which change of the priority this is, from 1")

    def detail(self) -> str:
        return str(self.number)


class ErasureRequested(JobEvent):
    """The job is to be forgotten: nothing of it is shown any more. It can be undone until the job is erased."""

    TYPE = "dreamforge.job.erasure-requested.v1"
    TOKEN = "erasure-requested"
    erase_at: AwareDatetime = Field(description="from when on the job is erased for good")
    requested_by: str = "client"
    number: int = Field(default=1, ge=1, description="which request to erase the job this is, from 1")

    def detail(self) -> str:
        return str(self.number)


class ErasureUndone(JobEvent):
    """The job is shown again, as it was; what its erasure has cancelled stays cancelled."""

    TYPE = "dreamforge.job.erasure-undone.v1"
    TOKEN = "erasure-undone"
    requested_by: str = "client"
    number: int = Field(default=1, ge=1, description="which request to erase the job this undoes, from 1")

    def detail(self) -> str:
        return str(self.number)


class JobErased(JobEvent):
    """The only event that stays of an erased job: every other one is removed from the log after it.

    It keeps the job's id taken, so that a repeated request with the same Idempotency-Key renders nothing again.
    """

    TYPE = "dreamforge.job.erased.v1"
    TOKEN = "erased"
    images: int = Field(ge=0, description="how many images were erased with it")


class ArtifactErased(JobEvent):
    """One image of the job is gone; the job and its other images stay. It cannot be undone."""

    TYPE = "dreamforge.job.artifact-erased.v1"
    TOKEN = "artifact-erased"
    attempt: int = Field(ge=1)
    index: int = Field(ge=0)
    requested_by: str = "client"

    def detail(self) -> str:
        return str(self.index)


class JobArchived(JobEvent):
    """Where the earlier events of a finished job are: in one object of the object store, and no more in the log.

    The messages up to `last_sequence` are bytes `offset_bytes` to `offset_bytes + size_bytes` of the object, a gzip
    member of JSON lines. This event keeps the job's id taken, and is what a read of the job finds first.
    """

    TYPE = "dreamforge.job.archived.v1"
    TOKEN = "archived"
    object_key: str = Field(min_length=1, max_length=200)
    offset_bytes: int = Field(ge=0)
    size_bytes: int = Field(ge=1)
    sha256: Sha256 = Field(description="of these bytes")
    events: int = Field(ge=1, description="how many messages they hold")
    first_sequence: int = Field(ge=1)
    last_sequence: int = Field(ge=1)


class StepProgressed(AttemptEvent):
    """One denoising step is done. Volatile by design: a lost step is allowed, a lost fact is not."""

    TYPE = "dreamforge.step.progressed.v1"
    TOKEN = "step"
    attempt: int = Field(ge=1)
    image_index: int = Field(ge=0)
    images: int = Field(ge=1)
    step: int = Field(ge=0)
    steps: int = Field(ge=1)
    elapsed_seconds: float = Field(ge=0)
    eta_seconds: float = Field(ge=0)
    preview: str | None = Field(
        default=None, exclude_if=is_none, description="what it looks like so far: a small JPEG as a data URI"
    )
    loading: str | None = Field(
        default=None, exclude_if=is_none, description="the model that is being read into memory before the first step"
    )
    together: int = Field(
        default=1,
        ge=1,
        exclude_if=is_one,
        description="how many images of the job, from image_index on, are rendered in one run and have made this step",
    )


JOB_EVENTS: tuple[type[JobEvent], ...] = (
    JobRequested,
    JobAssigned,
    JobStarted,
    ArtifactStored,
    AttemptFailed,
    JobSucceeded,
    JobFailed,
    CancelRequested,
    JobCancelled,
    JobWarned,
    JobHeld,
    JobReleased,
    JobPriorityChanged,
    ErasureRequested,
    ErasureUndone,
    JobErased,
    ArtifactErased,
    JobArchived,
)
TERMINAL_EVENTS: tuple[type[JobEvent], ...] = (JobSucceeded, JobFailed, JobCancelled)
ERASURE_EVENTS: tuple[type[JobEvent], ...] = (ErasureRequested, ErasureUndone, JobErased, ArtifactErased)
"""These, and no others, change a job that is over; `JobArchived` says where it is."""

# Who may write what. The server's permissions are made of these (see `log.subjects.published_by`).
RUNNER_EVENTS: tuple[type[AttemptEvent], ...] = (
    JobStarted,
    ArtifactStored,
    JobWarned,
    AttemptFailed,
    JobSucceeded,
    JobFailed,
    JobCancelled,
    StepProgressed,
)
SCHEDULER_EVENTS: tuple[type[JobEvent], ...] = (JobAssigned, AttemptFailed, JobFailed, JobCancelled)
GATEWAY_EVENTS: tuple[type[JobEvent], ...] = (
    JobRequested,
    CancelRequested,
    JobCancelled,
    JobHeld,
    JobReleased,
    JobPriorityChanged,
    ErasureRequested,
    ErasureUndone,
    ArtifactErased,
)
PROJECTOR_EVENTS: tuple[type[JobEvent], ...] = (ErasureRequested, JobErased, JobArchived)
