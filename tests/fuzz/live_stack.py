"""All services as processes over real servers. Nothing here restarts what ends: an end is what tests look for."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from dreamforge.cli.stack.plan import ServiceSpec, StackOptions, service_names, service_specs
from dreamforge.runtime.embedded import EmbeddedStack, GuardedProcess, spawn
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.service.settings import CommonSettings
from dreamforge.runtime.testing import eventually

# Five interpreters start at once on two cores that others may use too, one of them perhaps with torch.
READY_SECONDS = 120.0
ENDS = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Seen:
    """One event of a stream, as its reader got it."""

    id: str
    event: str
    data: dict[str, object]


@dataclass
class LiveStack:
    """The running system. `processes` are the first and only ones."""

    settings: CommonSettings
    environment: dict[str, str]
    specs: tuple[ServiceSpec, ...]
    processes: dict[str, GuardedProcess]
    folder: Path
    client: httpx.AsyncClient

    def ended(self) -> dict[str, str]:
        """Services that are no more, with the last they said."""
        codes = {name: process.returncode for name, process in self.processes.items()}
        return {name: f"{code}: {self.said(name)[-2000:]}" for name, code in codes.items() if code is not None}

    def said(self, name: str) -> str:
        """The log of a service."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    async def ready(self) -> bool:
        """Whether every service says so. Errors: AssertionError with those that do not (yet)."""
        assert not self.ended(), self.ended()
        for spec in self.specs:
            answer = await self._get(spec.ready_url)
            assert answer.startswith("200"), f"{spec.name} is not ready: {answer}"
        return True

    async def _get(self, url: str) -> str:
        try:
            answer = await self.client.get(url)
        except httpx.HTTPError as error:
            return repr(error)
        return f"{answer.status_code} {answer.text}"

    async def submit(self, **changes: object) -> str:
        """A real job, through the front door; its id."""
        body = {"prompt": "a red circle", "model_id": "synthetic", "steps": 3} | changes
        answer = await self.client.post("/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["job_id"])

    async def job(self, job_id: str) -> dict[str, object]:
        """A job as clients see it."""
        answer = await self.client.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, object] = answer.json()
        return found

    async def finished(self, job_id: str, seconds: float = 30.0) -> dict[str, object]:
        """A job once it has reached its end."""
        return await eventually(lambda: self.job(job_id), seconds, until=lambda job: job["status"] in ENDS)

    async def watch(self, job_id: str) -> list[Seen]:
        """Every event of a job, until its stream ends by itself."""
        seen: list[Seen] = []
        found: dict[str, str] = {}
        async with self.client.stream("GET", f"/v1/jobs/{job_id}/events") as answer:
            assert answer.status_code == 200, await answer.aread()
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if line:
                    found[name] = value
                elif "data" in found:
                    seen.append(Seen(found["id"], found["event"], json.loads(found["data"])))
                    found = {}
        return seen


@asynccontextmanager
async def live_stack(folder: Path, renderer: str = "synthetic", **own: str) -> AsyncIterator[LiveStack]:
    """Servers and services, ready. `own` are further settings (FORGE_...) of every service."""
    options = StackOptions(gateway_port=0, renderer=renderer)
    async with AsyncExitStack() as exits:
        servers = await exits.enter_async_context(EmbeddedStack(folder / "servers"))
        environment = servers.settings_env() | {"FORGE_LOG_JSON": "false", "FORGE_STATE_DIR": str(folder)} | own
        ports = {name: free_port() for name in service_names(options)}
        specs = service_specs(options, ports)
        named = {name.removeprefix("FORGE_").lower(): value for name, value in environment.items()}
        url = f"http://{specs[0].address}"
        client = await exits.enter_async_context(httpx.AsyncClient(base_url=url, timeout=30.0))
        settings = CommonSettings(_env_file=None, **named)  # type: ignore[arg-type]
        stack = LiveStack(settings, environment, specs, {}, folder, client)
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
