"""When and where a job is expected to run: what the gateway asks the scheduler that leads, and its answer."""

from typing import Self

from pydantic import Field, model_validator

from dreamforge.contracts.events import EstimateSource, JobRequested
from dreamforge.contracts.models.descriptor import Value


class ForecastQuestion(Value):
    """About an open job, by its id; or about a request that was not made, without its prompt."""

    job_id: str | None = None
    requested: JobRequested | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.job_id is None) == (self.requested is None):
            raise ValueError("a question names a job or has a request, and not both")
        return self


class SecondsRange(Value):
    """Seconds from now: half of the jobs are expected within `p50`, nine of ten within `p90`."""

    p50: float
    p90: float


class Forecast(Value):
    """Where and when a job is expected to start and to end, by what the runners have measured of themselves."""

    runner_id: str
    tier: str | None = Field(default=None, description="how the model is held in memory there; null: whole")
    load_seconds: float = Field(ge=0, description="of which loading the model before the first step; 0: it is loaded")
    starts_in_seconds: SecondsRange | None = Field(description="its first step; null: it runs already")
    ends_in_seconds: SecondsRange
    ahead: int = Field(ge=0, description="jobs that are expected to start before it")
    estimate: EstimateSource
    idle_runner_id: str | None = Field(
        default=None, description="a runner that could start it now, and would end it later: it waits for a better one"
    )
    idle_ends_in_seconds: float | None = Field(default=None, description="when that one would end it")


class ForecastAnswer(Value):
    """A forecast, or why there is none."""

    forecast: Forecast | None = None
    reason: str | None = Field(default=None, description="why there is no forecast")
