"""Settings of the command, and where it finds the stack: what was said, else what runs here, else the defaults."""

from pathlib import Path

from pydantic import Field, SecretStr

from dreamforge.cli.stack.record import StackRecord, read_record
from dreamforge.runtime.service import settings as runtime_settings
from dreamforge.runtime.service.settings import CommonSettings

# The models that come with a checkout, where the command is run in one.
SHIPPED_MODELS = Path("models")
DESCRIPTORS = "*/dreamforge.json"


class CliSettings(CommonSettings):
    """`FORGE_*` variables that the command reads, besides those of every service."""

    gateway_host: str = "127.0.0.1"
    gateway_port: int = Field(
        default=8080, ge=0, le=65535, description="where `up` puts the gateway; 0 takes a free port"
    )
    gateway_url: str = Field(default="", description="the gateway to talk to; empty: the one that runs here")
    tenant: str = Field(default="default", description="on whose behalf jobs are submitted")
    output_dir: Path = Field(default=Path("out"), description="where `generate` saves pictures")
    runner_models_dir: Path | None = None
    hub_url: str = Field(default="https://huggingface.co", description="where `models download` finds repositories")
    hub_token: SecretStr = Field(default=SecretStr(""), description="for repositories that ask who you are")

    @property
    def models_dir(self) -> Path:
        """Where the runner of this machine looks for models: as `up` tells it, unless something else was said."""
        if self.runner_models_dir is not None:
            return self.runner_models_dir
        own = self.state_dir / "models"
        return own if any(own.glob(DESCRIPTORS)) or not any(SHIPPED_MODELS.glob(DESCRIPTORS)) else SHIPPED_MODELS


def said() -> CliSettings:
    """What the environment and .env say; exits with one clear line for each setting that cannot be right."""
    return runtime_settings.load(CliSettings)


def load() -> CliSettings:
    """The settings of this call, filled from the stack that runs in this folder where nothing else was said."""
    found = said()
    record = read_record(found.state_dir)
    return found if record is None else filled(found, record)


def filled(given: CliSettings, record: StackRecord) -> CliSettings:
    """What was said wins over what runs here."""
    found = {name.removeprefix("FORGE_").lower(): value for name, value in record.settings.items()}
    missing = {name: value for name, value in found.items() if name not in given.model_fields_set}
    if not {"gateway_url", "gateway_port", "gateway_host"} & given.model_fields_set:
        missing["gateway_url"] = record.gateway_url
    return CliSettings(**missing)  # type: ignore[arg-type]  # pydantic parses the text of a variable


def gateway_url(settings: CliSettings) -> str:
    """The gateway's base URL, without a slash at its end."""
    return (settings.gateway_url or f"http://{settings.gateway_host}:{settings.gateway_port}").rstrip("/")
