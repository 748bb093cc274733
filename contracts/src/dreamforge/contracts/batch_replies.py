"""The replies of the gateway about batches, and about the wildcards of their templates."""

from datetime import datetime
from typing import Any

from pydantic import Field, JsonValue

from dreamforge.contracts.forecasts import BatchForecast
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.models.descriptor import Value
from dreamforge.contracts.replies import Links
from dreamforge.contracts.request.batch import BatchTemplate
from dreamforge.contracts.request.render_request import RenderRequest


class BatchLinks(Value):
    """The routes of a batch."""

    self: str
    events: str
    cancel: str
    images: str = Field(description="its finished pictures, as one zip file")

    @classmethod
    def of(cls, batch_id: str, root: str = "") -> "BatchLinks":
        """The links of one batch; `root` is the prefix of every path."""
        here = f"{root}/v1/batches/{batch_id}"
        return cls(self=here, events=f"{here}/events", cancel=f"{here}/cancel", images=f"{here}/images.zip")


class BatchAccepted(Value):
    """All jobs of the batch are in the log, durably. `sequence` is also in the header Forge-Sequence."""

    batch_id: str
    jobs: int = Field(description="how many it has")
    sequence: int = Field(description="send it as Forge-Min-Sequence with a read that must see this write")
    links: BatchLinks


class BatchSummary(Value):
    """A batch, as its jobs are."""

    batch_id: str
    tenant: str
    status: Status = Field(
        description="queued until a job is assigned, running until all have ended; then failed if one has failed, else "
        "cancelled if one was cancelled, else succeeded"
    )
    jobs: int = Field(description="how many it has")
    counts: dict[Status, int] = Field(description="how many of them have each status")
    template: BatchTemplate = Field(description="what was asked for")
    requested_at: datetime
    links: BatchLinks


class BatchImage(Value):
    """A finished picture of a job of a batch."""

    artifact_id: str
    url: str
    thumbnail_url: str
    index: int
    seed: int
    width_px: int
    height_px: int
    size_bytes: int
    content_type: str


class BatchJob(Value):
    """One job of a batch."""

    index: int
    job_id: str
    status: Status
    values: dict[str, Any] = Field(description="what it was given by templates and grid")  # Any: JSON
    prompt: str
    seed: int
    failure_reason: str | None
    failure_message: str | None
    images: tuple[BatchImage, ...]
    links: Links


class BatchReply(BatchSummary):
    """A batch with its jobs, in their order, and their finished pictures."""

    members: tuple[BatchJob, ...]


class BatchPage(Value):
    """Some batches, newest first."""

    batches: tuple[BatchSummary, ...]
    next_cursor: str | None = Field(description="send it as `cursor` for the next page; null on the last one")


class WildcardReply(Value):
    """A list of values for templates."""

    name: str = Field(description="as a template names it, between two underscores on each side")
    values: int = Field(description="how many it has")
    first: tuple[str, ...] = Field(description="the first of them")


class RefusedWildcard(Value):
    """A file of the folder that is not taken."""

    name: str
    reason: str


class WildcardList(Value):
    """The lists of values that templates may name."""

    wildcards: tuple[WildcardReply, ...]
    refused: tuple[RefusedWildcard, ...]


class BatchDryRun(Value):
    """What a batch would become; nothing of it was kept."""

    jobs: int = Field(ge=1, description="how many it would have")
    request: RenderRequest = Field(description="of the first job, with every default resolved")
    chosen: tuple[dict[str, JsonValue], ...] = Field(
        description="what each job is given by the templates and the grid, in their order"
    )
    template_seed: int | None = Field(description="send it with the batch to have the same random prompts; null: none")
    pixel_steps: int = Field(ge=0, description="what it would count of the quota of pixel-steps")
    forecast: BatchForecast | None = Field(description="where and when it would run, if it were submitted now")
    reason: str | None = Field(default=None, description="why there is no forecast, or not of all of its jobs")
