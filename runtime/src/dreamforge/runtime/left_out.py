"""Parts that a package imports for others, and that take much of a start: an empty module stands in their place."""

import sys
from types import ModuleType


def leave_out(module: str, *names: str) -> None:
    """Call it before the package of `module` is imported, which asks it for `names`: each is None.

    Nothing changes where the package is there already. A package that asks for another name after an upgrade cannot be
    imported, which each test would show.

    >>> leave_out("no_such_package.part", "Part")
    >>> sys.modules["no_such_package.part"].Part is sys.modules.pop("no_such_package.part").Part is None
    True
    """
    if module.rpartition(".")[0] in sys.modules:
        return
    empty = sys.modules[module] = ModuleType(module, "Left out: see dreamforge.runtime.left_out.")
    for name in names:
        setattr(empty, name, None)
