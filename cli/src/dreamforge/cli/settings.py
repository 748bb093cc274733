"""Settings of the command: from the environment, else from the stack that runs in this folder, else defaults."""

from pathlib import Path

from pydantic import Field, SecretStr

from dreamforge.cli.stack_record import StackRecord, read_record
from dreamforge.runtime.service import settings as runtime_settings
from dreamforge.runtime.service.settings import CommonSettings

# Models of a checkout, if the command runs in one.
SHIPPED_MODELS = Path("models")
DESCRIPTORS = "*/dreamforge.json"


class CliSettings(CommonSettings):
    """`FORGE_*` variables of the command, in addition to those of every service."""

    gateway_host: str = "127.0.0.1"
    gateway_port: int = Field(
        default=8080, ge=0, le=65535, description="port on which `up` starts the gateway; 0 takes a free port"
    )
    gateway_url: str = Field(default="", description="URL of the gateway; empty: the one that runs here")
    tenant: str = Field(default="default", description="tenant that submits the jobs")
    output_dir: Path = Field(default=Path("out"), description="folder in which `generate` saves images")
    runner_models_dir: Path | None = None
    hub_url: str = Field(
        default="https://huggingface.co", description="server on which `models download` finds repositories"
    )
    hub_token: SecretStr = Field(default=SecretStr(""), description="access token for gated and private repositories")

    @property
    def models_dir(self) -> Path:
        """The models folder of the runner on this machine: the setting, else the folder that `up` chooses."""
        if self.runner_models_dir is not None:
            return self.runner_models_dir
        own = self.state_dir / "models"
        return own if any(own.glob(DESCRIPTORS)) or not any(SHIPPED_MODELS.glob(DESCRIPTORS)) else SHIPPED_MODELS


def from_environment() -> CliSettings:
    """The settings of the environment and .env; exits with one line for each invalid setting."""
    return runtime_settings.load(CliSettings)


def load() -> CliSettings:
    """The settings of the environment, completed from the stack that runs in this folder."""
    given = from_environment()
    record = read_record(given.state_dir)
    return given if record is None else with_running_stack(given, record)


def with_running_stack(given: CliSettings, record: StackRecord) -> CliSettings:
    """Settings that are not given come from the running stack."""
    found = {name.removeprefix("FORGE_").lower(): value for name, value in record.settings.items()}
    missing = {name: value for name, value in found.items() if name not in given.model_fields_set}
    if not {"gateway_url", "gateway_port", "gateway_host"} & given.model_fields_set:
        missing["gateway_url"] = record.gateway_url
    return CliSettings(**missing)  # type: ignore[arg-type]  # pydantic parses the text


def gateway_url(settings: CliSettings) -> str:
    """The gateway's base URL, without a slash at its end."""
    return (settings.gateway_url or f"http://{settings.gateway_host}:{settings.gateway_port}").rstrip("/")
