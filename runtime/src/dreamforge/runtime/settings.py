"""Settings that every service shares: `FORGE_*` variables or a `.env` file. See `.env.example`."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class CommonSettings(BaseSettings):
    """Where the infrastructure is, and how to speak of ourselves. Each service adds its own fields."""

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
    database_url: SecretStr = Field(
        default=SecretStr("postgresql://forge@127.0.0.1:5432/forge"), description="Postgres read database"
    )
    s3_endpoint: str = Field(default="127.0.0.1:9000", description="host:port of the S3-compatible store")
    s3_access_key: str = "forge"
    s3_secret_key: SecretStr = SecretStr("")
    s3_bucket: str = "forge-artifacts"
    s3_secure: bool = Field(default=False, description="https to the store")
    s3_region: str = Field(default="us-east-1", description="set, so that the client never asks the store for it")

    stream_replicas: int = Field(default=1, ge=1, le=5, description="3 in a NATS cluster")
    log_level: str = "INFO"
    log_json: bool = Field(default=True, description="one JSON object a line; false prints for people")
    health_host: str = "127.0.0.1"
    health_port: int = Field(default=0, ge=0, le=65535, description="/metrics /healthz /readyz; 0 takes a free port")
    state_dir: Path = Field(default=Path(".forge"), description="what a local stack keeps")
