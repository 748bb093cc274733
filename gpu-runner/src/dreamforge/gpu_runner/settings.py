"""The runner's own settings: `FORGE_RUNNER_*`. See `.env.example`."""

import re
import socket
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from dreamforge.contracts.models.descriptor import Token
from dreamforge.contracts.models.optimisations import NONE, Optimisations
from dreamforge.contracts.request.values import GEOMETRY_SIZE_MAX
from dreamforge.runtime.service.settings import http_url
from dreamforge.runtime.storage.settings import ObjectStoreSettings

#: Small images still gain a little beyond it (docs/measurements/batching.md), and a cancel waits for a step of all.
BATCH_MAX = 16
#: At 0.5 s a job it covers uploads of 8 s; their bytes have a bound of their own.
ENDING_HEADROOM = 16


def default_runner_id() -> str:
    """The host's name as a token: the same after a restart, so that a runner is known again."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:64] or "runner"


class RunnerSettings(ObjectStoreSettings):
    """What a runner renders with, where its models are, and how long it waits."""

    runner_id: Token = Field(default_factory=default_runner_id, description="unique in the fleet")
    runner_renderer: Literal["diffusers", "synthetic"] = Field(
        default="diffusers", description="synthetic renders mosaics without a model, for benchmarks"
    )
    runner_models_dir: Path | None = Field(
        default=None, description="folders of diffusers models, each with a dreamforge.json; default STATE_DIR/models"
    )
    runner_tiny_model: bool = Field(default=True, description="build the tiny model where there is no other")
    runner_device: Literal["auto", "cpu", "cuda"] = "auto"
    runner_gpu_index: int = Field(default=0, ge=0, description="which GPU, as nvidia-smi counts them")
    runner_device_shares: int = Field(
        default=1, ge=1, le=8, description="runners that share this device; each uses its part of the memory"
    )
    runner_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    runner_optimisations: Optimisations = Field(
        default=NONE,
        description="of renders that name none, with commas between them: channels_last, fused_projections,"
        " attention_cudnn, attention_efficient or attention_flash, compiled_blocks; recipes name those in use",
    )
    runner_compile_cache_bytes: int = Field(
        default=2**31, ge=0, description="what compiled blocks may keep on disk; with more it is begun anew at a start"
    )
    runner_threads: int = Field(default=1, ge=1, le=256, description="CPU threads of torch; part of every recipe")
    runner_resident_models: int = Field(default=2, ge=1, description="models loaded before the first job comes")
    runner_resident_bytes: int = Field(
        default=0, ge=0, description="memory for models that stay loaded; 0: a share of the device's"
    )
    runner_slots: int = Field(default=1, ge=1, le=1024, description="attempts at a time; more than 1 only synthetic")
    runner_batch_max: int | None = Field(
        default=None,
        ge=1,
        le=GEOMETRY_SIZE_MAX,
        description="most images that are rendered in one run, of one job or of several; 1: each alone; default 16, of"
        " the synthetic renderer 1",
    )
    runner_sandbox: Literal["auto", "off", "required"] = Field(
        default="auto",
        description="auto: the process that renders is restricted as far as the system can; required: or not run",
    )
    runner_child_environment: str = Field(
        default="",
        description="further variables, comma-separated, that the process which renders gets of the environment, beside"
        " those of Python, drivers of GPUs and libraries of models",
    )
    runner_step_delay_seconds: float = Field(default=0.0, ge=0, description="slows the synthetic renderer down")
    runner_preview_seconds: float = Field(default=0.5, ge=0, description="least time between two previews; 0: none")
    runner_drain_seconds: float = Field(default=60.0, ge=0, description="time for running attempts after SIGTERM")
    runner_stall_seconds: float = Field(default=120.0, gt=0, description="silence of a render that means it is stuck")
    runner_load_seconds: float = Field(default=900.0, gt=0, description="silence of a load that means it is stuck")

    runner_objects_url: str = Field(
        default="",
        description="https://host:port of a gateway that takes pictures and gives inputs, for a runner that does not"
        " reach the object store; `dreamforge runner join` sets it",
    )
    runner_certificate: str = Field(
        default="", description="PEM file of the chain that pictures are signed with, leaf first; empty: not signed"
    )
    runner_certificate_key: SecretStr = Field(
        default=SecretStr(""), description="its private key, as PEM text or the name of a PEM file"
    )

    @property
    def batch_max(self) -> int:
        """Most images in one run. The synthetic renderer is there to measure everything around single renders."""
        return self.runner_batch_max or (BATCH_MAX if self.runner_renderer == "diffusers" else 1)

    @property
    def attempts_max(self) -> int:
        """Attempts at a time: one a slot, or as many as are rendered in one run, each of one image."""
        return max(self.runner_slots, self.batch_max)

    @property
    def ending_max(self) -> int:
        """Attempts that may end beside those: a slow object store holds up no card, and does not fill the memory."""
        return self.attempts_max + ENDING_HEADROOM

    @property
    def models_dir(self) -> Path:
        """Where the models are."""
        return self.runner_models_dir or self.state_dir / "models"

    @field_validator("runner_objects_url")
    @classmethod
    def _is_a_gateway(cls, url: str) -> str:
        return http_url(url) if url else url

    @model_validator(mode="after")
    def _a_certificate_has_a_key(self) -> Self:
        if bool(self.runner_certificate) != bool(self.runner_certificate_key.get_secret_value()):
            raise ValueError("FORGE_RUNNER_CERTIFICATE and FORGE_RUNNER_CERTIFICATE_KEY must be given together")
        return self

    @model_validator(mode="after")
    def _one_slot_renders_several(self) -> Self:
        if (self.runner_batch_max or 1) > 1 and self.runner_slots != 1:
            raise ValueError(
                "FORGE_RUNNER_BATCH_MAX is for a runner of one slot, which renders several images in one run"
            )
        return self

    @model_validator(mode="after")
    def _one_render_at_a_time_on_a_device(self) -> Self:
        if self.runner_renderer == "diffusers" and self.runner_slots != 1:
            raise ValueError("FORGE_RUNNER_SLOTS must be 1 with the diffusers renderer: start a runner a GPU")
        return self
