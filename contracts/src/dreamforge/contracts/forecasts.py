"""When and where jobs are expected to run: what the gateway asks the scheduler that leads, and its answer."""

from typing import Self

from pydantic import Field, model_validator

from dreamforge.contracts.events import EstimateSource, JobRequested
from dreamforge.contracts.models.descriptor import Value, is_none
from dreamforge.contracts.request.batch import BATCH_JOBS_MAX


class RequestedBatch(Value):
    """The jobs of a batch that was not made, without their prompts; those that are alike are written once."""

    requests: tuple[JobRequested, ...] = Field(min_length=1, max_length=BATCH_JOBS_MAX)
    jobs: tuple[int, ...] = Field(
        min_length=1, max_length=BATCH_JOBS_MAX, description="of each job, in their order, the index of its request"
    )

    @model_validator(mode="after")
    def _every_index_is_a_request(self) -> Self:
        if not all(0 <= index < len(self.requests) for index in self.jobs):
            raise ValueError(f"a job names a request that is not there: there are {len(self.requests)}")
        return self


class ForecastQuestion(Value):
    """About an open job, by its id; or about a request or a batch that was not made, without its prompts."""

    job_id: str | None = None
    requested: JobRequested | None = None
    batch: RequestedBatch | None = Field(default=None, exclude_if=is_none)

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if [self.job_id, self.requested, self.batch].count(None) != 2:
            raise ValueError("a question names a job, or has a request, or a batch: one of them")
        return self


class SecondsRange(Value):
    """Seconds from now: half of the jobs are expected within `p50`, nine of ten within `p90`."""

    p50: float
    p90: float


class Forecast(Value):
    """Where and when a job is expected to start and to end, by what the runners have measured of themselves."""

    runner_id: str
    tier: str | None = Field(default=None, description="how the model is held in memory there; null: whole")
    rungs: tuple[str, ...] = Field(
        default=(),
        description="what is done there from the start, because a render of this size ran out of memory without it: "
        "rungs of the memory ladder (offload_model, tiled_decode, ...)",
    )
    load_seconds: float = Field(ge=0, description="of which loading the model before the first step; 0: it is loaded")
    starts_in_seconds: SecondsRange | None = Field(description="its first step; null: it runs already")
    ends_in_seconds: SecondsRange
    ahead: int = Field(ge=0, description="jobs that are expected to start before it")
    estimate: EstimateSource
    idle_runner_id: str | None = Field(
        default=None, description="a runner that could start it now, and would end it later: it waits for a better one"
    )
    idle_ends_in_seconds: float | None = Field(default=None, description="when that one would end it")


class RunnerShare(Value):
    """What one runner is expected to do of a batch."""

    runner_id: str
    jobs: int = Field(ge=1)
    ends_in_seconds: SecondsRange = Field(description="the last of them")


class BatchForecast(Value):
    """Where and when the jobs of a batch are expected to start and to end, as those of one job are."""

    jobs: int = Field(ge=1, description="how many of its jobs this is about; fewer than it has: `reason` says why")
    starts_in_seconds: SecondsRange = Field(description="the first step of the first of them")
    ends_in_seconds: SecondsRange = Field(description="the last of them")
    ahead: int = Field(ge=0, description="jobs of others that are expected to start before the first of them")
    estimate: EstimateSource = Field(description="the least certain of them")
    runners: tuple[RunnerShare, ...] = Field(min_length=1, description="the runner of most of them first")


class ForecastAnswer(Value):
    """A forecast, or why there is none."""

    forecast: Forecast | None = None
    reason: str | None = Field(default=None, description="why there is no forecast, or not of all jobs of a batch")
    batch: BatchForecast | None = Field(default=None, exclude_if=is_none, description="of a batch that was asked about")
