"""What the fuzz tests share: a whole system of real processes."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # tests are imported by path; what they share needs a name

from live_stack import LiveStack, live_stack

from dreamforge.runtime.testing.choice import chosen_servers


def pytest_itemcollected(item: pytest.Item) -> None:
    """Each operation of the API gets an id of its own: with pytest 9.2 schemathesis gives all of them one, and
    pytest-xdist then runs only the first."""
    label = getattr(item, "operation_label", None)
    if label is not None and not item.nodeid.endswith("]"):
        item._nodeid = f"{item.nodeid}[{label}]"


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[LiveStack]:
    """One of every service, ready, with the synthetic renderer."""
    if chosen_servers() != "embedded":
        pytest.skip("starts servers of its own: needs FORGE_TEST_SERVERS=embedded")
    async with live_stack(tmp_path, FORGE_RUNNER_STEP_DELAY_SECONDS="0.02") as running:
        yield running
