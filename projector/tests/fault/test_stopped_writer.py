"""A writer that hangs is worse than one that dies: its session must not keep the lock."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from dreamforge.projector.maintenance.status import status
from dreamforge.projector.maintenance.verify import verify
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.projector.writing.session import LEASE_SECONDS
from dreamforge.runtime.testing import eventually

Folded = Callable[..., Awaitable[None]]
pytestmark = [pytest.mark.fault, pytest.mark.timeout(120)]


async def test_a_stopped_writer_loses_its_lock_and_does_not_write_when_it_wakes(
    settings: ProjectorSettings, story: Any, folded: Folded, projecting: Any
) -> None:
    environment = os.environ | {
        "FORGE_NATS_URL": settings.nats_url,
        "FORGE_NATS_ALLOW_UNSYNCED": "true",
        "FORGE_DATABASE_URL": settings.database_url.get_secret_value(),
    }
    first = await asyncio.create_subprocess_exec(sys.executable, "-m", "dreamforge.projector", env=environment)
    try:
        await folded(await story.request("A"))
        async with projecting(settings):
            await eventually(lambda: status(settings), until=lambda found: found.standing_by == 1)
            first.send_signal(signal.SIGSTOP)
            last = await story.request("B")
            await eventually(lambda: status(settings), LEASE_SECONDS + 5, until=lambda found: found.standing_by == 0)
            await folded(last)

            first.send_signal(signal.SIGCONT)
            await eventually(lambda: status(settings), until=lambda found: found.standing_by == 1)
            await folded(await story.request("C"))
            assert (await verify(settings)).equal
    finally:
        with suppress(ProcessLookupError):
            first.send_signal(signal.SIGCONT)
            first.kill()
        await first.wait()
