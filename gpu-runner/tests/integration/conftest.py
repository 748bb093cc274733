"""What a runner process is tested on."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dreamforge.runtime.log.streams import open_log
from dreamforge.runtime.log.views import FleetView
from dreamforge.runtime.storage.objects import ObjectStore
from dreamforge.runtime.storage.settings import ObjectStoreSettings
from dreamforge.runtime.testing.buckets import S3Settings
from dreamforge.runtime.testing.streams import declare_streams

from .stage import Stage


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory, torch_installed: None) -> Path:
    """Where tiny models of every family are built, once: tests change copies."""
    return tmp_path_factory.mktemp("families")


@pytest.fixture
def nats_prefix() -> str:
    """Override it by parametrizing."""
    return ""


@pytest.fixture
async def stage(nats_url: str, nats_prefix: str, s3_settings: S3Settings, tmp_path: Path) -> AsyncIterator[Stage]:
    servers = s3_settings.settings_env() | {
        "FORGE_NATS_URL": nats_url,
        "FORGE_NATS_PREFIX": nats_prefix,
        # Whatever server the tests were given: that it fsyncs is shown elsewhere.
        "FORGE_NATS_ALLOW_UNSYNCED": "true",
    }
    environment = os.environ | servers | {"FORGE_RUNNER_ID": "r1", "FORGE_STATE_DIR": str(tmp_path)}
    settings = ObjectStoreSettings.model_validate(
        {name.removeprefix("FORGE_").lower(): value for name, value in servers.items()}
    )
    await declare_streams(nats_url, nats_prefix)
    bus = await open_log(settings, "test")
    fleet = FleetView(bus)
    following = asyncio.create_task(fleet.run())
    stage = Stage(bus, ObjectStore(settings), fleet, environment)
    yield stage
    await stage.exits.aclose()
    for process in stage.processes:
        if process.returncode is None:
            process.kill()
            await process.wait()
    following.cancel()
    await stage.store.close()
    await bus.close()
