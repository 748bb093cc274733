"""Settings of the database and the object store, for the services that use them: a process is given no others."""

import re

from pydantic import Field, SecretStr, field_validator

from dreamforge.runtime.service.settings import CommonSettings

ENDPOINT = re.compile(r"unix:/.+|(\[[0-9a-fA-F:.]+\]|[^:/\s\[\]@]+)(:\d{1,5})?")


class DatabaseSettings(CommonSettings):
    """Where the read tables are."""

    database_url: SecretStr = Field(
        default=SecretStr("postgresql://forge@127.0.0.1:5432/forge"), description="Postgres read database"
    )
    rebuild_processes: int = Field(
        default=0,
        ge=0,
        le=16,
        description="processes that fold the log in `projection rebuild` and `projection verify`, some 300 MB each;"
        " 0: one for each processor, 4 at the most",
    )

    @field_validator("database_url")
    @classmethod
    def _is_a_database(cls, url: SecretStr) -> SecretStr:
        text = url.get_secret_value()
        if not text.startswith(("postgresql://", "postgres://")) or text.partition("?")[0].count("@") > 1:
            raise ValueError(
                "must be postgresql://user:password@host:port/database; special characters of a password are "
                "percent-encoded (%40 for @)"
            )
        return url


class ObjectStoreSettings(CommonSettings):
    """Where images and uploads are."""

    s3_endpoint: str = Field(
        default="127.0.0.1:9000", description="host:port of the S3-compatible store, or unix:/path of its socket"
    )
    s3_access_key: str = "forge"
    s3_secret_key: SecretStr = SecretStr("")
    s3_bucket: str = "forge-artifacts"
    s3_secure: bool = Field(default=False, description="https to the store")
    s3_region: str = Field(default="us-east-1", description="set, so that the client never asks the store for it")

    @field_validator("s3_endpoint")
    @classmethod
    def _is_an_endpoint(cls, endpoint: str) -> str:
        if ENDPOINT.fullmatch(endpoint) is None:
            raise ValueError(
                "must be host:port, without http:// and without a path, or unix:/path of a socket; "
                "FORGE_S3_SECURE=true means https"
            )
        return endpoint


class StorageSettings(ObjectStoreSettings, DatabaseSettings):
    """Both of them."""
