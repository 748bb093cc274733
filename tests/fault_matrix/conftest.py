"""One system for the whole matrix: damage that a fault leaves behind fails every later row."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from system_testkit.fault_injection import fault_injector
from system_testkit.in_process_system import InProcessSystem, in_process_system

from dreamforge.runtime.testing.choice import chosen_servers


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[InProcessSystem]:
    """All services in this process, each with drivers that fail on demand."""
    if chosen_servers() != "embedded":
        pytest.skip("starts servers of its own: needs FORGE_TEST_SERVERS=embedded")
    with fault_injector() as faults:
        async with in_process_system(tmp_path_factory.mktemp("matrix"), faults) as running:
            yield running
