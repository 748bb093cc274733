"""One system for the whole matrix: what a fault has broken for good would break every row after it."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

sys.path.insert(0, str(Path(__file__).parent))  # tests are imported by path; what they share needs a name

from injection import weather_station
from whole_system import System, whole_system

from dreamforge.runtime.testing.choice import chosen_servers


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """All services in this process, each with drivers that fail on demand."""
    if chosen_servers() != "embedded":
        pytest.skip("starts servers of its own: needs FORGE_TEST_SERVERS=embedded")
    with weather_station() as weather:
        async with whole_system(tmp_path_factory.mktemp("matrix"), weather) as running:
            yield running
