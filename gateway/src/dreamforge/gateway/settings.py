"""The settings of the gateway, beside those that every service has: `FORGE_GATEWAY_*` and `FORGE_LIMIT_*`."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from dreamforge.contracts.hosts import is_loopback
from dreamforge.contracts.quotas import InstallationQuotas
from dreamforge.contracts.request.limits import Limits
from dreamforge.gateway.http.root_path import checked
from dreamforge.gateway.identity.settings import OidcSettings
from dreamforge.gateway.webhooks.settings import WebhookSettings
from dreamforge.runtime.remote.settings import RemoteSettings
from dreamforge.runtime.storage.settings import StorageSettings

Authentication = Literal["none", "keys", "oidc", "keys,oidc"]


class GatewaySettings(OidcSettings, StorageSettings, WebhookSettings):
    """Address, time limits and bounds of the gateway."""

    gateway_host: str = "127.0.0.1"
    gateway_port: int = Field(default=8080, ge=0, le=65535, description="0 takes a free port")
    gateway_auth: Authentication = Field(
        default="none",
        description="keys: every request needs an API key, see `dreamforge keys`; oidc: a token of FORGE_OIDC_ISSUER, "
        "or a sign-in there; keys,oidc: one of them",
    )
    gateway_unprotected: bool = Field(
        default=False, description="allow an address that others can reach without keys: something else protects it"
    )
    gateway_hosts: str = Field(
        default="",
        description="host names, comma-separated, under which browsers reach the gateway, beside addresses, localhost "
        "and the machine's own name; * for any",
    )
    gateway_origins: str = Field(
        default="",
        description="origins of other sites (https://tools.example.org), comma-separated, whose pages may use the API",
    )
    gateway_trusted_proxies: str = Field(
        default="127.0.0.1,::1",
        description="addresses and networks (10.0.0.0/8), comma-separated, of the proxies whose X-Forwarded-For and "
        "X-Forwarded-Proto say who asked; empty: none",
    )
    gateway_root_path: str = Field(
        default="", description="prefix under which a proxy publishes the gateway (/forge); links of replies have it"
    )
    gateway_pictures_url: str = Field(
        default="",
        description="address under which clients reach the object store (https://pictures.example.org); pictures are "
        "then sent from there by signed links; empty: through the gateway",
    )
    gateway_pictures_seconds: int = Field(
        default=600, ge=10, le=86_400, description="how long such a link is valid; it cannot be revoked before"
    )
    gateway_keep_alive_seconds: int = Field(
        default=75, ge=1, description="idle time of a connection; longer than that of the proxy before it (nginx: 60)"
    )
    gateway_consistency_seconds: float = Field(default=5.0, gt=0, description="longest wait for Forge-Min-Sequence")
    gateway_heartbeat_seconds: float = Field(default=15.0, gt=0, description="between SSE comments")
    gateway_streams: int = Field(default=4096, ge=1, description="event streams that may be open at once")
    gateway_stream_buffer_bytes: int = Field(
        default=1024 * 1024, ge=1024, description="what one SSE client may be behind before it is dropped"
    )
    gateway_database_pool: int = Field(default=8, ge=1, description="connections to Postgres")
    gateway_database_timeout_seconds: float = Field(default=3.0, gt=0, description="per statement and per wait")
    gateway_head_seconds: float = Field(default=10.0, gt=0, description="what a client may take to send the headers")
    gateway_body_seconds: float = Field(default=60.0, gt=0, description="what a client may take to send a body")
    gateway_head_bytes: int = Field(default=64 * 1024, ge=1024, description="request line and headers together")
    gateway_uploads: int = Field(default=16, ge=1, description="uploads whose bytes may be in memory at once")
    gateway_decode_seconds: float = Field(
        default=10.0, gt=0, description="what decoding one upload may take before its process is killed"
    )
    gateway_answer_seconds: float = Field(
        default=600.0, gt=0, description="what an interface that answers with the images waits for a job"
    )
    gateway_openai_models: str = Field(
        default="",
        description="names that clients of OpenAI's API ask for, and our models: gpt-image-1=sdxl, dall-e-3=flux-dev",
    )
    gateway_wildcards_dir: Path | None = Field(
        default=None,
        description="folder of text files for __wildcards__ in prompt templates; every tenant may use them",
    )
    gateway_wildcards_bytes: int = Field(default=4 * 1024 * 1024, ge=1024, description="of all these files together")
    gateway_template_seconds: int = Field(
        default=3, ge=1, description="processor time that expanding one prompt template may take"
    )
    gateway_drain_seconds: float = Field(default=10.0, gt=0, description="what open requests get after SIGTERM")

    @model_validator(mode="after")
    def _is_protected(self) -> Self:
        """Others can reach the address, and anybody would be answered."""
        if self.gateway_auth == "none" and not self.gateway_unprotected and not is_loopback(self.gateway_host):
            raise ValueError(
                f"FORGE_GATEWAY_HOST is {self.gateway_host!r}, where others can reach it, and no key is asked for: set "
                "FORGE_GATEWAY_AUTH=keys and make one with `dreamforge keys create NAME`, or set "
                "FORGE_GATEWAY_UNPROTECTED=true if something in front of it decides who may connect"
            )
        return self

    @model_validator(mode="after")
    def _knows_its_provider(self) -> Self:
        """Tokens are asked for, and no provider is trusted."""
        if "oidc" in self.gateway_auth and not self.oidc_issuer:
            raise ValueError(
                f"FORGE_GATEWAY_AUTH is {self.gateway_auth!r}, and no provider is named: set FORGE_OIDC_ISSUER, and "
                "FORGE_OIDC_CLIENT_ID or FORGE_OIDC_AUDIENCE"
            )
        return self

    @field_validator("gateway_root_path")
    @classmethod
    def _is_a_prefix(cls, path: str) -> str:
        return checked(path)

    remote: RemoteSettings = Field(
        default=RemoteSettings(), description="runners of other machines, each one FORGE_REMOTE_*"
    )
    quota: InstallationQuotas = Field(
        default=InstallationQuotas(), description="what a tenant may use, each one FORGE_QUOTA_*"
    )
    limit: Limits = Field(default=Limits(), description="bounds of a request, each one FORGE_LIMIT_*")

    @field_validator("gateway_origins")
    @classmethod
    def _are_origins(cls, origins: str) -> str:
        for origin in parts_of(origins):
            if re.fullmatch(r"https?://[^/\s,]+", origin) is None:
                raise ValueError(f"{origin!r} must be https://host or https://host:port (or http), without a path")
        return origins

    @field_validator("gateway_pictures_url")
    @classmethod
    def _is_an_origin(cls, url: str) -> str:
        if url and re.fullmatch(r"https?://[^/\s,@]+", url) is None:
            raise ValueError("must be https://host or https://host:port (or http), without a path, as links are signed")
        return url

    @field_validator("gateway_openai_models")
    @classmethod
    def _are_pairs(cls, models: str) -> str:
        pairs_of(models)
        return models


def pairs_of(value: str) -> dict[str, str]:
    """The parts of a comma-separated setting of the form name=value. Errors: ValueError.

    >>> pairs_of("dall-e-3=flux, gpt-image-1 = sdxl")
    {'dall-e-3': 'flux', 'gpt-image-1': 'sdxl'}
    """
    found: dict[str, str] = {}
    for part in parts_of(value):
        name, equals, other = (each.strip() for each in part.partition("="))
        if not (name and equals and other):
            raise ValueError(f"{part!r} must be NAME=MODEL")
        found[name] = other
    return found


def parts_of(value: str) -> tuple[str, ...]:
    """The parts of a comma-separated setting.

    >>> parts_of("a, b,,")
    ('a', 'b')
    """
    return tuple(part for each in value.split(",") if (part := each.strip()))
