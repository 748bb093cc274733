"""The settings of every service that is installed: which are wrong, which have no effect, and where each comes from."""

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.settings import CliSettings
from dreamforge.cli.stack_record import read_record
from dreamforge.runtime.sandbox.environment import without_secrets
from dreamforge.runtime.service.settings import (
    CommonSettings,
    Given,
    InvalidSettings,
    Variable,
    declared,
    given,
    read,
    variables,
)

# By name: the command runs without the services, and imports none of them for its other work.
SERVICES = (
    ("gateway", "dreamforge.gateway.settings", "GatewaySettings"),
    ("scheduler", "dreamforge.scheduler.settings", "SchedulerSettings"),
    ("gpu-runner", "dreamforge.gpu_runner.settings", "RunnerSettings"),
    ("projector", "dreamforge.projector.settings", "ProjectorSettings"),
)
# `up` gives each service its own.
CHOSEN_BY_UP = ("FORGE_HEALTH_HOST", "FORGE_HEALTH_PORT", "FORGE_LOG_JSON")

RUNNING_STACK = "running stack"


def kinds() -> list[tuple[str, type[CommonSettings]]]:
    """The settings class of each installed service, and of the command."""
    found: list[tuple[str, type[CommonSettings]]] = []
    for name, module, kind in SERVICES:
        if find_spec(module.rpartition(".")[0]) is not None:
            found.append((name, getattr(importlib.import_module(module), kind)))
    return [*found, ("command", CliSettings)]


def require_valid(**arguments: Any) -> None:  # Any: values of any field
    """Check the settings of every service before one is started. `arguments` are those that the command sets itself.

    Errors: InvalidSettings with the lines of all.
    """
    lines: dict[str, None] = {}
    for _, kind in kinds():
        try:
            read(kind, **{name: value for name, value in arguments.items() if name in kind.model_fields})
        except InvalidSettings as error:
            lines |= dict.fromkeys(error.lines)
    if lines:
        raise InvalidSettings(tuple(lines))


def read_by(service: str, environment: Mapping[str, str]) -> dict[str, str]:
    """What a service is given of an environment: no secret, and of our settings those that it reads."""
    return without_secrets(environment, declared(dict(kinds())[service]))


def without_effect(found: Given, own: Mapping[str, str]) -> Iterator[str]:
    """One line for each given setting that a local stack does not use. `own` are the variables of its own servers."""
    for name in sorted(found.names()):
        value = found[name]
        if value is None:
            continue
        if name in CHOSEN_BY_UP:
            yield f"{name} ({value[1]}) is not used: `up` gives each service its own"
        elif name in own and name not in ("FORGE_NATS_URL", "FORGE_DATABASE_URL", "FORGE_S3_ENDPOINT"):
            yield f"{name} ({value[1]}) is not used: it is of a server that this stack starts itself"
    for name in unknown_settings():
        yield f"{name} is not a setting; `dreamforge env --settings` lists all"


def unknown_settings() -> list[str]:
    """FORGE_* names that nothing installed here reads."""
    return given().unknown(tuple(kind for _, kind in kinds()))


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """One setting as it is now; `value` is as it may be shown."""

    name: str
    value: str
    origin: str
    services: tuple[str, ...]
    about: str


def effective_settings() -> list[EffectiveSetting]:
    """Every setting of every installed service, with its value and origin. Errors: InvalidSettings for .env itself."""
    found, running = given(), _running_stack()
    readers: dict[str, list[str]] = {}
    known: dict[str, Variable] = {}
    for service, kind in kinds():
        for variable in variables(kind):
            readers.setdefault(variable.name, []).append(service)
            known.setdefault(variable.name, variable)
    settings = []
    for name, variable in known.items():
        value, origin = _value_of(variable, found, running)
        about = variable.field.description or ""
        settings.append(EffectiveSetting(name, variable.shown(value), origin, tuple(readers[name]), about))
    return settings


def _value_of(variable: Variable, found: Given, running: Mapping[str, str]) -> tuple[object, str]:
    """The value of a setting, and where it is from: what is named first wins."""
    if (argument := cli_settings.arguments().get(variable.path[0])) is not None:
        return argument, "argument"
    if (value := found[variable.name]) is not None:
        return value
    if variable.name in running:
        return running[variable.name], RUNNING_STACK
    return variable.field.get_default(call_default_factory=True), "default"


def _running_stack() -> dict[str, str]:
    """What the stack of this folder sets for the command; nothing when none runs."""
    state_dir, _ = given()["FORGE_STATE_DIR"] or (CliSettings.model_fields["state_dir"].default, "default")
    record = read_record(Path(state_dir))
    return {} if record is None else {**record.settings, "FORGE_GATEWAY_URL": record.gateway_url}
