"""Settings that every service shares, and the one way in which every process loads its own.

In this order an argument, a `FORGE_*` variable of the environment, the file that `FORGE_*_FILE` names there (as
containers are given secrets), the `.env` file of the current folder, the default.
An empty value is as one that is not given. See `.env.example`.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.jobs.retry_policy import RetryPolicy
from dreamforge.contracts.validation import describe_validation_error
from dreamforge.runtime.network import without_credentials
from dreamforge.runtime.service.setting_files import SUFFIX, FileSettingsSource, UnreadableSettingFile

PREFIX = "FORGE_"
ENV_FILE = ".env"
LOG_LEVELS = ("TRACE", "DEBUG", "INFO", "SUCCESS", "WARNING", "ERROR", "CRITICAL")
NATS_SCHEMES = ("nats", "tls", "ws", "wss")


class RetrySettings(BaseModel):
    """When a failed attempt is retried (FORGE_RETRY_*); the same for every service of a fleet."""

    max_attempts: int = Field(default=4, ge=1)
    base_seconds: float = Field(default=1.0, gt=0)
    cap_seconds: float = Field(default=60.0, gt=0)

    def policy(self) -> RetryPolicy:
        """As the value that `decide` takes."""
        return RetryPolicy(self.max_attempts, self.base_seconds, self.cap_seconds)


class CommonSettings(BaseSettings):
    """Where the bus is, logs and health. Each service adds its own fields; no other one is given to its process."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_file_encoding="utf-8-sig",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        protected_namespaces=(),
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - of a folder, which we do not use
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """In the order in which they win."""
        return init_settings, env_settings, FileSettingsSource(settings_cls), dotenv_settings

    nats_url: str = Field(default="nats://127.0.0.1:4222", description="NATS servers, comma-separated")
    nats_seed_file: Path | None = Field(
        default=None,
        description="file with the nkey seed of this service's NATS user, where FORGE_NATS_URL has no password",
    )
    nats_ca_file: Path | None = Field(
        default=None,
        description="PEM file of the authority that certifies the NATS servers; default: those of the system",
    )
    nats_prefix: str = Field(
        default="",
        pattern="^[A-Za-z0-9-]{0,32}$",
        description="before the names of streams and subjects, so that several installations can share a NATS server",
    )
    nats_monitor_url: str = Field(
        default="", description="monitoring addresses of the NATS servers (http://host:8222), to see that they fsync"
    )
    audit_retention_days: float = Field(
        default=365.0, gt=0, description="how long sign-ins, refused credentials and reads of admins are kept"
    )
    nats_allow_unsynced: bool = Field(default=False, description="accept a NATS that may lose jobs on a power failure")

    erasure_grace_seconds: float = Field(
        default=7 * 86_400.0,
        ge=0,
        le=366 * 86_400,
        description="how long the deletion of a job can be undone; 0: it is erased at once",
    )

    @field_validator("nats_url")
    @classmethod
    def _are_nats_servers(cls, urls: str) -> str:
        for url in urls.split(","):
            parts = _parts(url.strip() if "://" in url else f"nats://{url.strip()}")
            if parts is None or parts[0] not in NATS_SCHEMES:
                raise ValueError(
                    "must be nats://host:port or nats://user:password@host:port, several with commas between; "
                    "special characters of a password are percent-encoded (%40 for @)"
                )
        return urls

    @field_validator("nats_monitor_url")
    @classmethod
    def _are_monitors(cls, urls: str) -> str:
        for url in filter(None, (each.strip() for each in urls.split(","))):
            if (parts := _parts(url)) is None or parts[0] not in ("http", "https"):
                raise ValueError("must be http://host:8222, several with commas between")
        return urls

    @property
    def nats_monitor_urls(self) -> tuple[str, ...]:
        """The monitoring addresses, one by one.

        >>> CommonSettings(_env_file=None, nats_monitor_url="http://a:8222/, http://b:8222").nats_monitor_urls
        ('http://a:8222', 'http://b:8222')
        """
        return tuple(url.strip().rstrip("/") for url in self.nats_monitor_url.split(",") if url.strip())

    retry: RetrySettings = RetrySettings()
    stream_replicas: int = Field(default=1, ge=1, le=5, description="3 in a NATS cluster")
    log_level: str = "INFO"
    log_json: bool = Field(default=True, description="one JSON object a line; false prints for people")
    traces_sampled: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of requests that are traced, by OTLP over HTTP to OTEL_EXPORTER_OTLP_ENDPOINT; 0: none",
    )
    health_host: str = "127.0.0.1"
    health_port: int = Field(default=0, ge=0, le=65535, description="/metrics /healthz /readyz; 0 takes a free port")
    state_dir: Path = Field(default=Path(".forge"), description="what a local stack keeps")

    @field_validator("log_level")
    @classmethod
    def _is_a_level(cls, level: str) -> str:
        if level.upper() not in LOG_LEVELS:
            raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}")
        return level.upper()


def http_url(url: str) -> str:
    """A URL of a web server, without a slash at its end, for validators. Errors: ValueError."""
    if (parts := _parts(url)) is None or parts[0] not in ("http", "https"):
        raise ValueError("must be http://host:port or https://host")
    return url.rstrip("/")


def _parts(url: str) -> tuple[str, str] | None:
    """Scheme and host; None where it is no URL with a host and, if any, a port."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    return (parts.scheme, host) if host and parts.netloc.count("@") <= 1 and not re.search(r"\s", url) else None


S = TypeVar("S", bound=CommonSettings)
# EX_CONFIG of sysexits.h, which nothing else here exits with: starting again cannot help.
EXIT_SETTINGS = 78


@dataclass(eq=False)
class InvalidSettings(ForgeError):
    """Settings of a process cannot be right: one line each, with name, value, origin and what would be right."""

    code = "invalid_settings"
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def read(kind: type[S], **arguments: Any) -> S:  # Any: values of any field
    """The settings of a process. Errors: InvalidSettings."""
    try:
        with _env_file_is_text():
            return kind(**arguments)
    except ValidationError as error:
        raise InvalidSettings(tuple(_wrong(kind, error))) from None
    except SettingsError as error:
        raise InvalidSettings(tuple(_not_parsed(kind, error))) from None


@contextmanager
def _env_file_is_text() -> Iterator[None]:
    """Errors: InvalidSettings when it, or a file that a variable names, cannot be read."""
    try:
        yield
    except UnreadableSettingFile as error:
        raise InvalidSettings((str(error),)) from None
    except UnicodeDecodeError as error:
        raise InvalidSettings((f"{ENV_FILE} is not UTF-8 text: byte {error.start} cannot be read",)) from None
    except OSError as error:
        raise InvalidSettings((f"{ENV_FILE} cannot be read: {error.strerror or error}",)) from None


def load(kind: type[S]) -> S:
    """The settings of a service; one line for each that is wrong, and exit with EXIT_SETTINGS."""
    try:
        return read(kind)
    except InvalidSettings as error:
        print(error, file=sys.stderr)  # noqa: T201 before any log
        sys.exit(EXIT_SETTINGS)


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting: the variable, where its value is in the settings, and its declaration."""

    name: str
    path: tuple[str, ...]
    field: FieldInfo

    @property
    def is_secret(self) -> bool:
        """Whether its value is never shown."""
        return self.field.annotation is SecretStr

    def shown(self, value: object) -> str:
        """A value as it may be shown: without passwords.

        >>> next(each for each in variables(CommonSettings) if each.name == "FORGE_NATS_URL").shown("nats://t@h")
        'nats://***@h'
        """
        text = value.get_secret_value() if isinstance(value, SecretStr) else "" if value is None else str(value)
        text = text.lower() if isinstance(value, bool) else text
        if "://" in text:
            return without_credentials(text)
        return "***" if self.is_secret and text else text


def variables(model: type[BaseModel], prefix: str = PREFIX, path: tuple[str, ...] = ()) -> Iterator[Variable]:
    """Every variable of a settings class, groups (FORGE_RETRY_...) opened."""
    for name, field in model.model_fields.items():
        variable, here = f"{prefix}{name.upper()}", (*path, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from variables(field.annotation, f"{variable}_", here)
        else:
            yield Variable(variable, here, field)


def declared(model: type[BaseModel]) -> frozenset[str]:
    """The names of every variable that a settings class reads, groups as a whole (FORGE_RETRY) and files included.

    >>> {"FORGE_NATS_URL", "FORGE_NATS_URL_FILE", "FORGE_RETRY", "FORGE_RETRY_CAP_SECONDS"} <= declared(CommonSettings)
    True
    """
    groups = (f"{PREFIX}{each.path[0].upper()}" for each in variables(model))
    names = [each.name for each in variables(model)]
    return frozenset((*groups, *names, *(f"{name}{SUFFIX}" for name in names)))


@dataclass(frozen=True, slots=True)
class Given:
    """What the environment and the .env file say, by the names of variables."""

    environment: dict[str, str]
    files: dict[str, str]
    env_file: dict[str, str]

    def __getitem__(self, name: str) -> tuple[str, str] | None:
        """Value and origin of a variable; None where it has its default."""
        if name in self.environment:
            return self.environment[name], "environment"
        if name in self.files:
            return self.files[name], self.environment[f"{name}{SUFFIX}"]
        return (self.env_file[name], ENV_FILE) if name in self.env_file else None

    def unknown(self, kinds: "tuple[type[CommonSettings], ...]") -> list[str]:
        """FORGE_* names that no service reads: most often misspelt ones. Those of tests are not among them."""
        known = frozenset[str]().union(*map(declared, kinds))
        return sorted(name for name in self.names() - known if not name.startswith(f"{PREFIX}TEST_"))

    def names(self) -> set[str]:
        """Every FORGE_* name that has a value."""
        return {name for name in (*self.environment, *self.env_file) if name.startswith(PREFIX)}


def given() -> Given:
    """The variables that are set and not empty. Errors: InvalidSettings when .env cannot be read."""
    with _env_file_is_text():
        sources = (kind(CommonSettings) for kind in (EnvSettingsSource, FileSettingsSource, DotEnvSettingsSource))
        found = [{name.upper(): value for name, value in source.env_vars.items() if value} for source in sources]
    return Given(*found)


def _wrong(kind: type[CommonSettings], error: ValidationError) -> Iterator[str]:
    """A message about several settings has no location and names them itself."""
    known = {each.path: each for each in variables(kind)}
    found = given()
    for (location, message), each in zip(describe_validation_error(error), error.errors(), strict=True):
        path = tuple(str(part) for part in location)
        variable = known.get(path) or known.get(path[:1])
        if variable is None:
            yield f"{PREFIX}{'_'.join(path).upper()}: {message}" if path else message
            continue
        value, origin = found[variable.name] or (each.get("input"), "argument")
        yield f"{variable.name} is {variable.shown(value)!r}{_from(origin)}: {message}"


def _not_parsed(kind: type[CommonSettings], error: SettingsError) -> Iterator[str]:
    """A group as a whole (FORGE_LIMIT=...) takes JSON; its parts are variables of their own."""
    match = re.search(r'field "(\w+)"', str(error))
    if match is None:
        yield str(error)
        return
    name = f"{PREFIX}{match[1].upper()}"
    value, origin = given()[name] or ("", "environment")
    parts = [each.name for each in variables(kind) if each.path[0] == match[1]]
    yield f"{name} is {value!r}{_from(origin)}: there is no such setting; there are {', '.join(parts)}"


def _from(origin: str) -> str:
    return "" if origin in ("environment", "argument") else f" in {os.path.abspath(origin)}"
