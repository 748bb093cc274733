"""The bounds of a request, explicit and configurable (`FORGE_LIMIT_*`)."""

from pydantic import BaseModel, Field

from dreamforge.contracts.request.batch import BATCH_JOBS_MAX


class Limits(BaseModel):
    """What one request may ask for. Defaults fit one card; every one is a setting."""

    prompt_chars: int = Field(default=2_000, ge=1)
    pixels: int = Field(default=2048 * 2048, ge=64)
    steps: int = Field(default=150, ge=1)
    images: int = Field(default=16, ge=1)
    frames: int = Field(default=257, ge=1, description="of a video")
    video_pixels: int = Field(default=161 * 1280 * 720, ge=64, description="of a video: its frames times their pixels")
    control: int = Field(default=3, ge=1, description="ControlNets of one request")
    guidance_scale: float = Field(default=50.0, ge=0)
    body_bytes: int = Field(default=64 * 1024, ge=1024)
    upload_bytes: int = Field(default=16 * 1024 * 1024, ge=1024)
    upload_pixels: int = Field(default=4096 * 4096, ge=64)
    open_jobs: int = Field(default=100_000, ge=1)
    batch_jobs: int = Field(default=100, ge=1, le=BATCH_JOBS_MAX, description="jobs of one batch")
