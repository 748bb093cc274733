"""Write the versions of `requirements.lock` into `pyproject.toml` as constraints; with `--forget`, take them out.

A date alone does not pin: an index that lags behind shows a version weeks after the day it was uploaded on.
"""

import re
import sys
from pathlib import Path

PROJECT, LOCK = Path("pyproject.toml"), Path("requirements.lock")
PINS = re.compile(r"^constraint-dependencies = \[\n.*?^\]$", re.DOTALL | re.MULTILINE)
PINNED = re.compile(r"^([a-z0-9][^ \\]*==[^\\\n]*?) *\\?$", re.MULTILINE)


def main() -> None:
    """Rewrite the one list, and nothing else, of `pyproject.toml` in the current folder."""
    versions = [] if "--forget" in sys.argv[1:] else PINNED.findall(LOCK.read_text())
    pins = "".join(f'    "{version}",\n' for version in versions)
    text, found = PINS.subn(lambda _: f"constraint-dependencies = [\n{pins}]", PROJECT.read_text())
    if found != 1:
        sys.exit("pins: pyproject.toml has no list `constraint-dependencies = [`, closed by a `]` of its own line")
    PROJECT.write_text(text)


if __name__ == "__main__":
    main()
