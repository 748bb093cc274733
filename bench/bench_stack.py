"""A whole system of separate processes for one measurement, and the one way to submit a job to it."""

import asyncio
import contextlib
import os
from pathlib import Path

from bench.fault_targets import ServiceProcess
from bench.http_connection import HttpConnection

from dreamforge.cli.stack.plan import ServiceSpec
from dreamforge.runtime.embedded import EmbeddedStack
from dreamforge.runtime.embedded.ports import free_port

WAIT_SECONDS = 60.0


class BenchStack:
    """A stack of separate processes in a folder of its own."""

    def __init__(self, stack: EmbeddedStack, folder: Path, **environment: str) -> None:
        own = {"FORGE_STATE_DIR": str(folder), "FORGE_LOG_JSON": "false", "FORGE_LOG_LEVEL": "WARNING"}
        self._environment = {**os.environ, **stack.settings_env(), **own, **environment}
        self._folder = folder
        self.services: dict[str, ServiceProcess] = {}

    def add(self, name: str, kind: str, **environment: str) -> ServiceProcess:
        """Start one service; it is restarted 0.5 s after it was killed, unless `restart_seconds` says otherwise."""
        port = free_port()
        where = {"FORGE_HEALTH_PORT": str(port), "FORGE_GATEWAY_PORT": str(port), "FORGE_RUNNER_ID": name}
        spec = ServiceSpec(name, kind, "127.0.0.1", port, {**where, **environment})
        service = ServiceProcess(spec, self._environment, self._folder / f"{name}.log", restart_seconds=0.5)
        self.services[name] = service
        service.start()
        return service

    async def stop(self) -> None:
        """Stop everything."""
        await asyncio.gather(*(service.stop() for service in self.services.values()))


async def submit_until_accepted(url: str, **more: object) -> str:
    """One job through the gateway, retried until it is accepted."""
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                connection = await HttpConnection.open(url)
                body = {"model_id": "synthetic", "prompt": "p", "steps": 100, **more}
                answer = await connection.post("/v1/jobs", body)
                await connection.close()
                if answer.status == 202:
                    return str(answer.body["job_id"])
            await asyncio.sleep(0.02)
