"""Targets of fault injection: each process is restarted at once on the same port, as a supervisor would."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dreamforge.cli.stack.plan import ServiceSpec
from dreamforge.runtime.embedded import EmbeddedServer, GuardedProcess, spawn

# What a supervisor needs to notice an exit and restart; the growing pauses of `dreamforge up` are for people.
RESTART_SECONDS = 0.1


@dataclass
class ServiceProcess:
    """One service process. `faults` counts what was injected."""

    spec: ServiceSpec
    environment: Mapping[str, str]
    log_path: Path
    process: GuardedProcess | None = None
    stopping: bool = False
    restart_seconds: float = RESTART_SECONDS
    faults: int = 0
    supervisor_task: "asyncio.Task[None] | None" = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """Its name in logs and tables."""
        return self.spec.name

    @property
    def kind(self) -> str:
        """gateway, scheduler, runner or projector."""
        return self.spec.kind.replace("gpu-", "")

    def start(self) -> None:
        """Start it, and restart it whenever it exits, until `stop`."""
        self.supervisor_task = asyncio.create_task(self._supervise(), name=self.name)

    async def _supervise(self) -> None:
        with self.log_path.open("ab") as log:
            while not self.stopping:
                self.process = await spawn(
                    [sys.executable, "-m", self.spec.module],
                    environment={**self.environment, **self.spec.environment},
                    output=log,
                )
                await self.process.wait()
                if not self.stopping:
                    await asyncio.sleep(self.restart_seconds)

    async def inject(self, how: signal.Signals, pause_seconds: float) -> None:
        """SIGKILL, SIGTERM, or SIGSTOP for a while."""
        if self.process is None or self.process.returncode is not None:
            return
        self.faults += 1
        process = self.process
        process.send_signal(how)
        if how is signal.SIGSTOP:
            await asyncio.sleep(pause_seconds)
            process.send_signal(signal.SIGCONT)

    def child_pids(self) -> list[int]:
        """Ids of the processes it started: a runner's workers."""
        if self.process is None:
            return []
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        with contextlib.suppress(OSError):
            return [int(word) for word in path.read_text().split()]
        return []

    async def stop(self) -> None:
        """Stop it and do not restart it."""
        self.stopping = True
        if self.process is not None:
            await self.process.stop(grace_seconds=15.0)
        if self.supervisor_task is not None:
            await self.supervisor_task


@dataclass
class RendererProcess:
    """The worker process of a runner: what a crash of a kernel or a driver ends."""

    runner: ServiceProcess
    faults: int = 0
    kind: str = "child"

    @property
    def name(self) -> str:
        """Its name in tables."""
        return f"{self.runner.name}.child"

    async def inject(self, how: signal.Signals, pause_seconds: float) -> None:
        """A signal to the worker process only."""
        for pid in self.runner.child_pids():
            self.faults += 1
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
                if how is signal.SIGSTOP:
                    await asyncio.sleep(pause_seconds)
                    os.kill(pid, signal.SIGCONT)


@dataclass
class ServerProcess:
    """NATS, Postgres or S3: killed and started again on the same data and port."""

    server: EmbeddedServer
    faults: int = 0
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        """Its name in tables."""
        return self.server.name

    @property
    def kind(self) -> str:
        """The same."""
        return self.server.name

    async def inject(self, how: signal.Signals, pause_seconds: float) -> None:
        """SIGKILL and a restart; SIGTERM is an orderly restart; SIGSTOP a partition that heals."""
        async with self.busy:
            self.faults += 1
            if how is signal.SIGSTOP:
                os.kill(self.server.pid, signal.SIGSTOP)
                await asyncio.sleep(pause_seconds)
                os.kill(self.server.pid, signal.SIGCONT)
                return
            if how is signal.SIGKILL:
                await self.server.kill()
            await self.server.restart()


FaultTarget = ServiceProcess | RendererProcess | ServerProcess
