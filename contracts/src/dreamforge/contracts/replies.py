"""The replies of the gateway, as values: the OpenAPI document is made of these, and clients read them."""

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field

from dreamforge.contracts.events import Candidate, Decision
from dreamforge.contracts.fleet import Device, Heartbeat
from dreamforge.contracts.forecasts import Forecast
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, Value
from dreamforge.contracts.request.render_request import RenderRequest


class Links(Value):
    """The routes of a job."""

    self: str
    events: str
    why: str
    cancel: str

    @classmethod
    def of(cls, job_id: str, root: str = "") -> "Links":
        """The links of one job; `root` is the prefix of every path."""
        here = f"{root}/v1/jobs/{job_id}"
        return cls(self=here, events=f"{here}/events", why=f"{here}/why", cancel=f"{here}/cancel")


class Accepted(Value):
    """A write is in the log, durably. `sequence` is also in the header Forge-Sequence."""

    job_id: str
    status: Status
    sequence: int = Field(description="send it as Forge-Min-Sequence with a read that must see this write")
    links: Links


class Step(Value):
    """The latest step that was reported."""

    attempt: int
    image_index: int
    images: int
    step: int
    steps: int
    elapsed_seconds: float
    eta_seconds: float
    at: datetime


class AttemptReply(Value):
    """One attempt at a job."""

    attempt: int
    runner_id: str
    instance_id: str
    status: str
    estimated_vram_bytes: int
    assigned_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    reason: str | None = None
    message: str | None = None
    retryable: bool | None = None


class ArtifactReply(Value):
    """A finished picture: listed as soon as it is stored, also while others are rendered, after a cancel too."""

    artifact_id: str
    url: str = Field(description="the bytes")
    thumbnail_url: str = Field(description="a small copy: WebP with sides of at most 512 pixels")
    index: int
    sha256: str
    size_bytes: int
    content_type: str
    width_px: int
    height_px: int
    seed: int
    recipe: dict[str, Any]  # Any: free JSON, as in the event
    stored_at: datetime


class JobSummary(Value):
    """The state of a job."""

    job_id: str
    version: int = Field(description="log sequence of the last event that is in this reply")
    tenant: str
    status: Status
    priority: int
    request: RenderRequest
    attempt: int
    runner_id: str | None
    cancel_requested: bool
    failure_reason: str | None
    failure_message: str | None
    retry_at: datetime | None
    requested_at: datetime
    assigned_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    render_seconds: float | None
    held_since: datetime | None = Field(default=None, description="set while its owner keeps it from being assigned")
    batch_id: str | None = Field(default=None, description="the batch that it was requested in")
    batch_index: int | None = Field(default=None, description="which of its jobs this is, from 0")
    batch_values: dict[str, Any] | None = Field(  # Any: JSON
        default=None, description="what the templates and the grid of the batch gave this job"
    )
    step: Step | None = None
    links: Links


class WarningReply(Value):
    """A note on an attempt that went on: the picture may differ from what was requested."""

    code: str = Field(description="stable, for programs")
    message: str
    image_index: int | None = Field(default=None, description="null: all pictures")
    words: tuple[str, ...] = Field(default=(), description="the words that it is about")
    at: datetime


class JobReply(JobSummary):
    """A job with its attempts, the pictures that are finished, and the warnings of these and of the current attempt."""

    attempts: tuple[AttemptReply, ...] = ()
    warnings: tuple[WarningReply, ...] = ()
    artifacts: tuple[ArtifactReply, ...] = ()
    forecast: Forecast | None = Field(
        default=None, description="while it is open: where and when it is expected to run; null: nothing measured says"
    )


class DryRun(Value):
    """What a request would become; nothing of it was kept."""

    request: RenderRequest = Field(description="with every default resolved")
    pixel_steps: int = Field(ge=0, description="what it would count of the quota of pixel-steps")
    forecast: Forecast | None = Field(description="where and when it would run, if it were submitted now")
    reason: str | None = Field(default=None, description="why there is no forecast")


class JobPage(Value):
    """Some jobs, newest first."""

    jobs: tuple[JobSummary, ...]
    next_cursor: str | None = Field(description="send it as `cursor` for the next page; null on the last one")


class AttemptDecision(Value):
    """Why a runner was chosen for an attempt: recorded when it was decided, never recomputed."""

    attempt: int
    runner_id: str
    status: str
    assigned_at: datetime
    decision: Decision
    reason: str | None = None
    message: str | None = None
    summary: str = Field(description="the decision, worded for people")


class Waiting(Value):
    """Why a job waits, judged now with the rule of the scheduler."""

    ahead: int = Field(ge=0, description="waiting jobs with higher priority, or the same and older; ageing may differ")
    retry_at: datetime | None = None
    held: Literal["job", "tenant", "fleet"] | None = Field(
        default=None,
        description="what is held: the job itself, the queue of its tenant, every queue; null: nothing",
    )
    held_since: datetime | None = None
    candidates: tuple[Candidate, ...]
    forecast: Forecast | None = Field(default=None, description="where and when it is expected to run")


class WhyReply(Value):
    """Why a job is in its state."""

    job_id: str
    status: Status
    summary: str = Field(description="one or two sentences for people")
    attempts: tuple[AttemptDecision, ...]
    waiting: Waiting | None = Field(default=None, description="only while the job waits for a runner")


class UploadReply(Value):
    """A picture that can be named by its hash in `init_image`, `mask_image` and `control`."""

    sha256: str
    width_px: int
    height_px: int
    size_bytes: int
    content_type: str
    url: str = Field(description="the bytes")


class ModelReply(Value):
    """A registered model, and the runners that have it."""

    descriptor: ModelDescriptor
    default: bool = Field(description="taken when a request names no model")
    parameters: dict[str, Any] | None = Field(  # Any: a JSON document
        description="JSON Schema of what a request for it may set; null for what only changes how one renders"
    )
    runners: tuple[str, ...] = Field(description="live runners that can load it")
    resident_on: tuple[str, ...] = Field(description="live runners that have it loaded")


class OpenAiModel(Value):
    """A model as clients of OpenAI's API list it."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "dreamforge"


class ModelList(Value):
    """Models in the order in which they were registered. `object` and `data` are what clients of OpenAI's API read."""

    models: tuple[ModelReply, ...]
    object: Literal["list"] = "list"
    data: tuple[OpenAiModel, ...] = Field(description="the models that render by themselves, and their aliases")


class Fit(Value):
    """Whether one live runner could render with a preset if it were idle."""

    runner_id: str
    tier: str | None = Field(description="how the model would be held in memory there; null where it cannot")
    refused: str | None = Field(description="why it cannot; null where it can")


class PresetReply(Value):
    """A way to use a model."""

    model_id: str
    default: bool = Field(description="taken when a request names this model and no preset")
    preset: Preset
    runners: tuple[Fit, ...] = Field(description="every live runner")


class PresetList(Value):
    """All presets of all models."""

    presets: tuple[PresetReply, ...]


class RunnerReply(Value):
    """A runner as the log has it, and its latest heartbeat."""

    runner_id: str
    instance_id: str
    status: str = Field(description="online, stopped or lost, from the log")
    renderer: str
    device: Device
    slots: int
    model_ids: tuple[str, ...]
    registered_at: datetime | None
    changed_at: datetime | None
    heartbeat: Heartbeat | None = Field(description="null when its lease has expired")


class RunnerList(Value):
    """Every runner that ever registered."""

    runners: tuple[RunnerReply, ...]


class QueueHoldReply(Value):
    """A queue that is held."""

    tenant: str | None = Field(description="null: every queue")
    held_since: datetime


class QueueReply(Value):
    """Which queues are held. Jobs of the others are assigned."""

    held: tuple[QueueHoldReply, ...]


class ProblemReply(Value):
    """RFC 9457. Further members carry the error's own fields."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="stable, for programs")
    instance: str = ""
    request_id: str = ""
    errors: tuple[dict[str, str], ...] = Field(
        default=(), description="each with `detail`, and a `pointer` into the body or a `parameter`"
    )


class Health(Value):
    """The process answers."""

    status: str


class Readiness(Value):
    """Whether requests can be served, and the reasons where not."""

    ready: bool
    checks: dict[str, str] = Field(description="ok or the reason, by dependency")
    clock_skew_seconds: float = Field(
        default=0.0, description="how far the gateway's clock is ahead of the log's; times are corrected by it"
    )
