"""The quotas of a tenant as values: how much of each, and how much of one is used. Pure."""

from enum import StrEnum

from pydantic import Field

from dreamforge.contracts.models.descriptor import Value

HOUR_SECONDS = 3600
WEIGHT_MAX = 100


class Quota(StrEnum):
    """What is limited for a tenant."""

    OPEN_JOBS = "open_jobs"
    PIXEL_STEPS_PER_HOUR = "pixel_steps_per_hour"
    STORED_BYTES = "stored_bytes"
    STREAMS = "streams"
    REQUESTS_PER_SECOND = "requests_per_second"
    UPLOADS = "uploads"


class Quotas(Value):
    """What a tenant may use at most; None: without a limit, or as the installation says."""

    open_jobs: int | None = Field(default=None, ge=0, description="jobs that are not finished")
    pixel_steps_per_hour: int | None = Field(
        default=None, ge=0, description="pixels times steps times images of the jobs requested in the last hour"
    )
    stored_bytes: int | None = Field(default=None, ge=0, description="finished images of its jobs, and its uploads")
    streams: int | None = Field(default=None, ge=0, description="open event streams of one gateway")
    requests_per_second: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="with API keys, of one gateway; as many at once"
    )
    uploads: int | None = Field(default=None, ge=0, description="uploads that one gateway receives at once")

    def limit(self, quota: Quota) -> int | float | None:
        """One of them."""
        value: int | float | None = getattr(self, quota.value)
        return value

    def or_else(self, others: "Quotas") -> "Quotas":
        """Each of these, or that of others where it is None.

        >>> Quotas(streams=1).or_else(Quotas(streams=2, uploads=3)).model_dump(exclude_none=True)
        {'streams': 1, 'uploads': 3}
        """
        return others.model_copy(update=self.model_dump(exclude_none=True))


NO_QUOTAS = Quotas()


class InstallationQuotas(Quotas):
    """What holds for a tenant where its own quotas say nothing (`FORGE_QUOTA_*`)."""

    open_jobs: int | None = Field(default=50_000, ge=0, description="jobs of a tenant that are not finished")
