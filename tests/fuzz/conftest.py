"""What the fuzz tests share: a whole system of real processes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from system_testkit.live_stack import LiveStack, live_stack

from dreamforge.runtime.testing.choice import chosen_servers


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[LiveStack]:
    """One of every service, ready, with the synthetic renderer."""
    if chosen_servers() != "embedded":
        pytest.skip("starts servers of its own: needs FORGE_TEST_SERVERS=embedded")
    async with live_stack(tmp_path, FORGE_RUNNER_STEP_DELAY_SECONDS="0.02") as running:
        yield running
