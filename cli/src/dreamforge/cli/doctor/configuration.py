"""Settings: wrong ones, and names that nothing reads."""

from collections.abc import Iterator

from dreamforge.cli.doctor.findings import Finding, fault, ok, warning
from dreamforge.cli.service_settings import require_valid, unknown_settings
from dreamforge.runtime.service.settings import InvalidSettings


def check_configuration() -> Iterator[Finding]:
    """As every service would read the environment and .env in this folder."""
    try:
        require_valid()
    except InvalidSettings as error:
        for line in error.lines:
            yield fault("settings", line, "see `dreamforge env --settings`, or .env.example")
    else:
        yield ok("settings", "every service accepts them")
    for name in unknown_settings():
        yield warning("settings", f"{name} is not a setting: nothing reads it", "see `dreamforge env --settings`")
