"""Settings that every service shares: `FORGE_*` variables or a `.env` file. See `.env.example`."""

import sys
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from dreamforge.contracts.jobs.retry_policy import RetryPolicy
from dreamforge.contracts.validation import Location, describe_validation_error


class RetrySettings(BaseModel):
    """When a failed attempt is retried (FORGE_RETRY_*); the same for every service of a fleet."""

    max_attempts: int = Field(default=4, ge=1)
    base_seconds: float = Field(default=1.0, gt=0)
    cap_seconds: float = Field(default=60.0, gt=0)

    def policy(self) -> RetryPolicy:
        """As the value that `decide` takes."""
        return RetryPolicy(self.max_attempts, self.base_seconds, self.cap_seconds)


class CommonSettings(BaseSettings):
    """Where the infrastructure is, logs and health. Each service adds its own fields."""

    model_config = SettingsConfigDict(
        env_prefix="FORGE_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        protected_namespaces=(),
    )

    nats_url: str = Field(default="nats://127.0.0.1:4222", description="NATS servers, comma-separated")
    nats_monitor_url: str = Field(
        default="", description="monitoring addresses of the NATS servers (http://host:8222), to see that they fsync"
    )
    nats_allow_unsynced: bool = Field(default=False, description="accept a NATS that may lose jobs on a power failure")
    database_url: SecretStr = Field(
        default=SecretStr("postgresql://forge@127.0.0.1:5432/forge"), description="Postgres read database"
    )
    s3_endpoint: str = Field(default="127.0.0.1:9000", description="host:port of the S3-compatible store")
    s3_access_key: str = "forge"
    s3_secret_key: SecretStr = SecretStr("")
    s3_bucket: str = "forge-artifacts"
    s3_secure: bool = Field(default=False, description="https to the store")
    s3_region: str = Field(default="us-east-1", description="set, so that the client never asks the store for it")
    retry: RetrySettings = RetrySettings()
    stream_replicas: int = Field(default=1, ge=1, le=5, description="3 in a NATS cluster")
    log_level: str = "INFO"
    log_json: bool = Field(default=True, description="one JSON object a line; false prints for people")
    health_host: str = "127.0.0.1"
    health_port: int = Field(default=0, ge=0, le=65535, description="/metrics /healthz /readyz; 0 takes a free port")
    state_dir: Path = Field(default=Path(".forge"), description="what a local stack keeps")


S = TypeVar("S", bound=CommonSettings)
EXIT_USAGE = 2


def load(kind: type[S]) -> S:
    """The settings of a process; one clear line for each that is wrong, and exit 2."""
    try:
        return kind()
    except ValidationError as error:
        for location, message in describe_validation_error(error):
            print(_wrong(location, message), file=sys.stderr)  # noqa: T201 before any log
        sys.exit(EXIT_USAGE)


def _wrong(location: Location, message: str) -> str:
    """One line on a wrong setting; a message about several settings has no location and names them itself.

    >>> _wrong(("health_port",), "input should be less than 1")
    'FORGE_HEALTH_PORT: input should be less than 1'
    """
    return f"FORGE_{'_'.join(map(str, location)).upper()}: {message}" if location else message
