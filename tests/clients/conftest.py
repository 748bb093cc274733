"""One running system for all tests of foreign clients; pytest marks each of them `clients`."""

import asyncio
import inspect
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from system_testkit.live_stack import LiveStack, live_stack

TESTKIT = Path(__file__).parents[2] / "gpu-runner/testkit"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; they share the event loop of the stack."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.clients)
            if inspect.iscoroutinefunction(getattr(item, "function", None)):
                # Before the marker that pytest-asyncio gives every test: the first one counts.
                item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveStack]:
    """The system with tiny diffusers models, which render in a moment, and with assets for one of them."""
    folder = tmp_path_factory.mktemp("clients")
    make = [sys.executable, "-m", "runner_testkit.assets", str(folder / "models")]  # this process stays without torch
    await asyncio.to_thread(subprocess.run, make, check=True, env=os.environ | {"PYTHONPATH": str(TESTKIT)})
    own = {
        "FORGE_GATEWAY_WEBHOOK_KEY": "k" * 32,
        "FORGE_GATEWAY_WEBHOOK_NETWORKS": "127.0.0.1",
        "FORGE_GATEWAY_WEBHOOK_HTTP": "true",
    }
    async with live_stack(folder, renderer="diffusers", **own) as running:
        yield running


@pytest.fixture(scope="session")
def gateway_url(stack: LiveStack) -> str:
    """Where the gateway answers, as a client is told."""
    return str(stack.client.base_url).rstrip("/")
