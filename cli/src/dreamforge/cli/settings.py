"""Settings of the command: arguments, else the environment and .env, else the stack of this folder, else defaults."""

from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from dreamforge.cli.stack_record import StackRecord, read_record
from dreamforge.contracts.token import Token
from dreamforge.runtime.network import authority, networks_of, reachable
from dreamforge.runtime.remote.settings import RemoteSettings
from dreamforge.runtime.service.settings import http_url, read
from dreamforge.runtime.storage.settings import StorageSettings

# Models of a checkout, if the command runs in one.
SHIPPED_MODELS = Path("models")
DESCRIPTORS = "*/dreamforge.json"


class CliSettings(StorageSettings):
    """`FORGE_*` variables of the command, in addition to those of every service."""

    gateway_host: str = "127.0.0.1"
    gateway_port: int = Field(
        default=8080, ge=0, le=65535, description="port on which `up` starts the gateway; 0 takes a free port"
    )
    gateway_url: str = Field(default="", description="URL of the gateway; empty: the one that runs here")
    tenant: str = Field(default="default", pattern="^[A-Za-z0-9_-]{1,64}$", description="tenant that submits the jobs")
    api_key: SecretStr = Field(
        default=SecretStr(""), description="key for a gateway that asks for one: `dreamforge keys create NAME`"
    )
    output_dir: Path = Field(default=Path("out"), description="folder in which `generate` saves images")
    runners: int = Field(
        default=0, ge=0, le=64, description="runners that `up` starts; 0: one for each GPU, or one on the CPU"
    )
    runner_models_dir: Path | None = None
    runner_renderer: Literal["diffusers", "synthetic"] | None = None
    runner_device: Literal["auto", "cpu", "cuda"] = "auto"
    runner_gpu_index: int | None = Field(default=None, ge=0)
    runner_device_shares: int = Field(default=1, ge=1, le=8)
    runner_id: Token | None = None
    runner_drain_seconds: float | None = Field(default=None, ge=0)
    remote: RemoteSettings = Field(
        default=RemoteSettings(), description="runners of other machines, each one FORGE_REMOTE_*"
    )
    hub_url: str = Field(
        default="https://huggingface.co", description="server on which `models download` finds repositories"
    )
    models_check: Literal["weights", "headers"] = Field(
        default="weights",
        description="what `models add`, `download` and `verify` check: `weights`, each one by name and shape as the"
        " renderer loads them (seconds, where it is installed); `headers`, that the files are whole and fit",
    )
    hub_token: SecretStr = Field(default=SecretStr(""), description="access token for gated and private repositories")
    download_networks: str = Field(
        default="",
        description="internal networks or addresses (10.1.0.0/16, 127.0.0.1), comma-separated, from which models may be"
        " downloaded, beside public ones and FORGE_HUB_URL",
    )

    @field_validator("gateway_url", "hub_url")
    @classmethod
    def _is_a_web_address(cls, url: str) -> str:
        return http_url(url) if url else url

    @field_validator("download_networks")
    @classmethod
    def _are_networks(cls, networks: str) -> str:
        try:
            networks_of(networks)
        except ValueError as error:
            raise ValueError(
                f"must be networks or addresses such as 10.1.0.0/16, with commas between: {error}"
            ) from None
        return networks

    @property
    def models_dir(self) -> Path:
        """The models folder of the runner on this machine: the setting, else the folder that `up` chooses."""
        if self.runner_models_dir is not None:
            return self.runner_models_dir
        own = self.state_dir / "models"
        return own if any(own.glob(DESCRIPTORS)) or not any(SHIPPED_MODELS.glob(DESCRIPTORS)) else SHIPPED_MODELS


# Settings that this call of the command has as arguments.
_ARGUMENTS: ContextVar[dict[str, str]] = ContextVar("_ARGUMENTS")


def set_arguments(arguments: dict[str, str]) -> None:
    """Settings that win over those of the environment, by the names of their fields."""
    _ARGUMENTS.set(arguments)


def arguments() -> dict[str, str]:
    """What `set_arguments` was given."""
    return _ARGUMENTS.get({})


def from_environment() -> CliSettings:
    """The settings of the arguments, the environment and .env. Errors: InvalidSettings."""
    return read(CliSettings, **arguments())


def load() -> CliSettings:
    """The settings, completed from the stack that runs in this folder. Errors: InvalidSettings."""
    given = from_environment()
    record = read_record(given.state_dir)
    return given if record is None else with_running_stack(given, record)


def with_running_stack(given: CliSettings, record: StackRecord) -> CliSettings:
    """Settings that are not given come from the running stack."""
    completed = with_servers(given, record.settings)
    if {"gateway_url", "gateway_port", "gateway_host"} & given.model_fields_set:
        return completed
    return completed.model_copy(update={"gateway_url": record.gateway_url})


def with_servers(given: CliSettings, variables: Mapping[str, str]) -> CliSettings:
    """Settings that are not given come from FORGE_* variables of servers that run here."""
    found = {name.removeprefix("FORGE_").lower(): value for name, value in variables.items()}
    missing = {name: value for name, value in found.items() if name not in given.model_fields_set}
    return CliSettings(**{**missing, **arguments()})  # type: ignore[arg-type]  # pydantic parses the text


def gateway_url(settings: CliSettings) -> str:
    """The gateway's base URL, without a slash at its end."""
    if settings.gateway_url:
        return settings.gateway_url
    return f"http://{authority(reachable(settings.gateway_host), settings.gateway_port)}"
