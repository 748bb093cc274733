"""Print `.env.example`: every FORGE_* setting of every service, with its default and what it is for.

Made from the settings classes themselves, so that it cannot be wrong; `task check` compares it with the file.
"""

import sys
from pathlib import Path
from types import NoneType
from typing import get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from dreamforge.cli.settings import CliSettings
from dreamforge.gateway.settings import GatewaySettings
from dreamforge.gpu_runner.settings import RunnerSettings
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime.service.settings import CommonSettings, variables
from dreamforge.runtime.storage.settings import DatabaseSettings, ObjectStoreSettings
from dreamforge.scheduler.settings import SchedulerSettings

HEAD = """\
# Every setting of Dream Forge with its default. Copy this file to .env and uncomment what you change; a variable
# of the environment wins over .env, and FORGE_X_FILE there may name a file with the value of FORGE_X. `dreamforge up`
# starts its own NATS, Postgres and S3 unless FORGE_NATS_URL, FORGE_DATABASE_URL or FORGE_S3_ENDPOINT name another.
# Written by `task env-example`.
"""
GROUPS: tuple[tuple[str, type[CommonSettings]], ...] = (
    ("Every service", CommonSettings),
    ("Services with the database", DatabaseSettings),
    ("Services with the object store", ObjectStoreSettings),
    ("Gateway", GatewaySettings),
    ("Scheduler", SchedulerSettings),
    ("Runner", RunnerSettings),
    ("Projector", ProjectorSettings),
    ("Command line", CliSettings),
)


def lines_of(model: type[CommonSettings], seen: set[str]) -> list[str]:
    """One entry for each variable that no group before had."""
    lines = []
    for variable in variables(model):
        if variable.name not in seen:
            seen.add(variable.name)
            lines += entry(variable.name, variable.field)
    return lines


def entry(variable: str, field: FieldInfo) -> list[str]:
    """The variable with its default, commented out, below what it is for."""
    about = [f"# {field.description}"] if field.description else []
    return [*about, f"#{variable}={shown(field)}"]


def shown(field: FieldInfo) -> str:
    """The default as one would write it; nothing where it depends on the machine."""
    default = field.default if field.default_factory is None else ""
    if isinstance(default, SecretStr):
        return default.get_secret_value()
    if default is None and NoneType in get_args(field.annotation):
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return default.as_posix() if isinstance(default, Path) else str(default)


def main() -> None:
    seen: set[str] = set()
    groups = (f"# --- {title}\n" + "\n".join(lines_of(model, seen)) for title, model in GROUPS)
    sys.stdout.write("\n".join((HEAD, "\n\n".join(groups), "")))


if __name__ == "__main__":
    main()
