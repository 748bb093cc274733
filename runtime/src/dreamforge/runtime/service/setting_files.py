"""Settings out of files: FORGE_X_FILE names one with the value of FORGE_X, as containers are given their secrets."""

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic_settings import BaseSettings, EnvSettingsSource

SUFFIX = "_FILE"
PREFIX = "FORGE_"


class UnreadableSettingFile(ValueError):
    """A file that a variable names cannot be read; the text has both."""


class FileSettingsSource(EnvSettingsSource):
    """A source behind the environment: the content of the files that variables of the environment name."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        super().__init__(settings_cls)
        self.env_vars = {name.lower(): value for name, value in from_files(os.environ).items()}


def from_files(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables whose values are in files: without the white space around them. Errors: UnreadableSettingFile.

    FORGE_NATS_SEED_FILE is a setting of its own, and gives a FORGE_NATS_SEED that nothing reads.
    """
    found = {}
    for name, path in environment.items():
        variable = name.upper().removesuffix(SUFFIX)
        if not path or not name.upper().endswith(SUFFIX) or not variable.startswith(PREFIX):
            continue
        try:
            found[variable] = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UnreadableSettingFile(f"{name} is {path!r}, which cannot be read: {reason}") from error
    return found
