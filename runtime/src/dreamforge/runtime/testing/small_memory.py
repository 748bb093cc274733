"""A process for which the kernel finds no memory soon, and ends it, as on a full machine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dreamforge.runtime import ids
from dreamforge.runtime.testing.eventually import eventually

#: Where the memory controller is mounted, and its name for the limit: version 2 of control groups, and version 1.
_CONTROLLERS = ((Path("/sys/fs/cgroup"), "memory.max"), (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"))


@asynccontextmanager
async def small_memory(pid: int, limit_bytes: int) -> AsyncIterator[None]:
    """A process may take so many bytes more; the test is skipped where control groups cannot be made."""
    group = _made_group(limit_bytes)
    try:
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for left in (group / "cgroup.procs").read_text().split():
            (group.parent / "cgroup.procs").write_text(left)
        await eventually(lambda: _is_removed(group))


def _made_group(limit_bytes: int) -> Path:
    for folder, limit in _CONTROLLERS:
        group = folder / f"dreamforge-test-{ids.new_id()}"
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / limit).exists():
            (group / limit).write_text(str(limit_bytes))
            return group
        group.rmdir()
    pytest.skip("no control group with a limit of memory can be made here")


def _is_removed(group: Path) -> bool:
    """A group can be removed once the kernel is done with its processes."""
    try:
        group.rmdir()
    except OSError:
        return False
    return True
