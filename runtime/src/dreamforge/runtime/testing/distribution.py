"""How `pytest -n ... --dist loadgroup` shares tests between its processes; loaded by the root pyproject.

The tests of a file stay together, since they share what their fixtures started, and so do the files of one
`xdist_group`. The longest come first, so that no process is left with them at the end: those that start torch, then
those of the whole system.
"""

import gc
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from xdist.scheduler import LoadGroupScheduling

# What `task test:fault` collects.
FAULT_FOLDERS = frozenset(("fault", "fault_matrix", "fuzz"))

# Until all tests are collected, torch among what they import: see `leave_out_imports` of the services.
gc.disable()

if "PYTEST_XDIST_WORKER" in os.environ:
    # There is a process for each processor already: with threads of their own beside it, torch and numpy wait for
    # each other more than they compute.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")


def pytest_configure() -> None:
    """How long an example takes depends on what else runs on the machine: hypothesis judges it only if a test asks."""
    if settings.get_current_profile_name() == "default":
        settings.register_profile("without a deadline", deadline=None)
        settings.load_profile("without a deadline")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Each process of xdist collects all tests, and they agree on their order.

    Errors: UsageError for a test of faults outside the folders of these, where `task test:fault` would not find it.
    """
    for item in items:
        if item.get_closest_marker("fault") and not FAULT_FOLDERS.intersection(item.path.parts):
            raise pytest.UsageError(f"{item.nodeid} is marked `fault`: move it to a folder {sorted(FAULT_FOLDERS)}")
    if hasattr(config, "workerinput"):
        items.sort(key=_late)


def pytest_collection_finish() -> None:
    """What is there before the first test stays until the last: a full collection of garbage need not look at it.

    It took half of the time of some tests: renderers collect when they drop a model, and thousands of tests and all
    of torch are millions of objects.
    """
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    """The exit need not look at what is there either."""
    gc.freeze()


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers() -> int:
    """Half as many processes again as processors: a fifth of the time of a run with one each was spent in waiting."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return processors + processors // 2


def _late(item: pytest.Item) -> tuple[bool, bool]:
    return item.get_closest_marker("torch") is None, not item.nodeid.startswith("tests/")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> "LoadGroupScheduling | None":
    """Of `--dist loadgroup`; None leaves another choice to xdist."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    class ByGroupOrFile(LoadGroupScheduling):  # type: ignore[misc] # untyped
        def _split_scope(self, nodeid: str) -> str:
            group: str = super()._split_scope(nodeid)
            return group if group != nodeid else nodeid.split("::", 1)[0]

    config.option.loadscopereorder = False
    return ByGroupOrFile(config, log)
