"""All services as processes over real servers. A process that exits is restarted by a test only, never from here."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from dreamforge.cli.stack.plan import ServiceSpec, StackOptions, runner_ids, service_names, service_specs
from dreamforge.runtime.embedded import EmbeddedStack, GuardedProcess, spawn
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.storage.settings import StorageSettings
from dreamforge.runtime.testing import eventually
from system_testkit.api_client import ApiClient

# Five interpreters start at once on two cores that others may use too, one of them perhaps with torch.
READY_SECONDS = 120.0


@dataclass
class LiveStack(ApiClient):
    """The running system."""

    settings: StorageSettings
    environment: dict[str, str]
    specs: tuple[ServiceSpec, ...]
    processes: dict[str, GuardedProcess]
    folder: Path

    def exited(self) -> dict[str, str]:
        """Services that have exited, with the end of their logs."""
        codes = {name: process.returncode for name, process in self.processes.items()}
        return {name: f"{code}: {self.log_of(name)[-2000:]}" for name, code in codes.items() if code is not None}

    def log_of(self, name: str) -> str:
        """The log of a service."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    async def ready(self) -> bool:
        """Whether every service is ready. Errors: AssertionError with the first that is not."""
        assert not self.exited(), self.exited()
        for spec in self.specs:
            answer = await self._get(spec.ready_url)
            assert answer.startswith("200"), f"{spec.name} is not ready: {answer}"
        return True

    async def kill_and_start_again(self, name: str) -> None:
        """SIGKILL to a service, then another process of it; returns before that is ready."""
        await self.processes[name].kill()
        (spec,) = (each for each in self.specs if each.name == name)
        self.processes[name] = await _start(spec, self.environment, self.folder)

    async def start_another(self, name: str, other: str) -> None:
        """A second process of a service, as the same user of the bus; returns before it is ready."""
        (spec,) = (each for each in self.specs if each.name == name)
        port = free_port()
        spec = replace(spec, name=other, port=port, environment={**spec.environment, "FORGE_HEALTH_PORT": str(port)})
        self.specs += (spec,)
        self.processes[other] = await _start(spec, self.environment, self.folder)

    async def kill(self, name: str) -> None:
        """SIGKILL to a service that is not started again."""
        await self.processes.pop(name).kill()
        self.specs = tuple(each for each in self.specs if each.name != name)

    async def _get(self, url: str) -> str:
        try:
            answer = await self.client.get(url)
        except httpx.HTTPError as error:
            return repr(error)
        return f"{answer.status_code} {answer.text}"


@asynccontextmanager
async def live_stack(folder: Path, renderer: str = "synthetic", **own: str) -> AsyncIterator[LiveStack]:
    """Servers and services that are ready. `own` are further settings (FORGE_...) of every service."""
    options = StackOptions(gateway_port=0, renderer=renderer)
    async with AsyncExitStack() as exits:
        servers = await exits.enter_async_context(EmbeddedStack(folder / "servers", runner_ids=runner_ids(options)))
        environment = servers.settings_env() | {"FORGE_LOG_JSON": "false", "FORGE_STATE_DIR": str(folder)} | own
        ports = {name: free_port() for name in service_names(options)}
        specs = tuple(
            replace(spec, environment={**spec.environment, **servers.service_env(spec.bus_user)})
            for spec in service_specs(options, ports)
        )
        named = {name.removeprefix("FORGE_").lower(): value for name, value in environment.items()}
        url = f"http://{specs[0].address}"
        client = await exits.enter_async_context(httpx.AsyncClient(base_url=url, timeout=30.0))
        settings = StorageSettings(_env_file=None, **named)  # type: ignore[arg-type]
        stack = LiveStack(client, settings, environment, specs, {}, folder)
        exits.push_async_callback(_stop, stack)
        for spec in specs:
            stack.processes[spec.name] = await _start(spec, environment, folder)
        await eventually(stack.ready, READY_SECONDS, interval_seconds=0.2)
        yield stack


async def _start(spec: ServiceSpec, environment: dict[str, str], folder: Path) -> GuardedProcess:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FORGE_")}
    with (folder / f"{spec.name}.log").open("ab") as log:
        return await spawn(
            [sys.executable, "-m", spec.module],
            environment=inherited | environment | dict(spec.environment) | {"PYTHONUNBUFFERED": "1"},
            folder=folder,
            output=log,
        )


async def _stop(stack: LiveStack) -> None:
    await asyncio.gather(*(process.stop(grace_seconds=15.0) for process in stack.processes.values()))
