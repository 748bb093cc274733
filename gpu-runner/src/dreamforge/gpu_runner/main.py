"""Wiring: settings in, a running runner out."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from pydantic import ValidationError

from dreamforge.contracts.errors import DependencyAway
from dreamforge.gpu_runner.settings import RunnerSettings
from dreamforge.gpu_runner.supervisor.supervisor import Supervisor
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.streams import open_log
from dreamforge.runtime.service import lifecycle
from dreamforge.runtime.service.health import Check, HealthServer
from dreamforge.runtime.storage.objects import ObjectStore

NAME = "gpu-runner"


async def run(settings: RunnerSettings, stop: asyncio.Event) -> None:
    """Be a runner until `stop`. Errors: BrokerUnfit."""
    parts = _Parts(settings)
    health = HealthServer(settings.health_host, settings.health_port, parts.checks())
    health.start()
    try:
        parts.bus = await _unless_stopped(stop, open_log(settings, f"{NAME}-{settings.runner_id}"))
        if parts.bus is not None:
            parts.supervisor = Supervisor(settings, parts.bus, parts.objects)
            await parts.supervisor.run(stop)
    finally:
        if parts.bus is not None:
            await parts.bus.close()
        health.stop()


def main() -> None:
    """`python -m dreamforge.gpu_runner`."""
    try:
        settings = RunnerSettings()
    except ValidationError as error:
        raise SystemExit(f"gpu-runner cannot run: {error}") from None
    lifecycle.main(NAME, settings, lambda stop: run(settings, stop))


async def _unless_stopped(stop: asyncio.Event, connecting: Coroutine[Any, Any, Bus]) -> Bus | None:
    """The connection, or None if we are to stop before NATS is there. Any: a coroutine's other parameters."""
    waiting = asyncio.create_task(stop.wait())
    task = asyncio.create_task(connecting)
    await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not task.done():
        task.cancel()
        return None
    return task.result()


class _Parts:
    """What readiness asks about; filled as the service comes up."""

    def __init__(self, settings: RunnerSettings) -> None:
        self.objects = ObjectStore(settings)
        self.bus: Bus | None = None
        self.supervisor: Supervisor | None = None

    def checks(self) -> dict[str, Check]:
        return {"nats": self._nats, "s3": self.objects.check, "child": self._child}

    async def _nats(self) -> None:
        if self.bus is None or not self.bus.connected:
            raise DependencyAway(dependency="nats", reason="not connected")

    async def _child(self) -> None:
        if self.supervisor is None or not (self.supervisor.ready.is_set() and self.supervisor.keeper.accepting):
            raise DependencyAway(dependency="child", reason="the renderer is not up")
