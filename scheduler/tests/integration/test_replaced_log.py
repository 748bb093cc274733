"""A scheduler whose log is replaced ends with one reason: what it has folded is void."""

import asyncio
import shutil

import pytest

from dreamforge.contracts.errors import DependencyAway, LogReplaced
from dreamforge.runtime.embedded import NatsServer
from dreamforge.runtime.service.health import Check
from dreamforge.runtime.service.lifetime import Lifetime
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.streams import declare_streams
from dreamforge.scheduler.main import start
from dreamforge.scheduler.settings import SchedulerSettings


async def test_it_ends_instead_of_planning_with_jobs_of_another_log(nats_server: NatsServer) -> None:
    settings = SchedulerSettings(nats_url=nats_server.url, nats_allow_unsynced=True)
    await declare_streams(nats_server.url)
    checks: dict[str, Check] = {}
    lifetime = Lifetime(asyncio.Event(), checks)
    running = asyncio.create_task(lifetime.run(lambda each: start(settings, each)))

    async def folded() -> bool:
        try:
            await checks["log"]()
        except (KeyError, DependencyAway):
            return False
        return True

    await eventually(folded, 30)
    await nats_server.kill()
    shutil.rmtree(nats_server.folder / "jetstream")
    await nats_server.restart()
    await declare_streams(nats_server.url)

    with pytest.raises(LogReplaced, match="was replaced while it was read"):
        await asyncio.wait_for(running, 30)
