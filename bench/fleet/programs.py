"""Programs of a host: started in its namespace, and started again when they end, as a supervisor would."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.fault_targets import RESTART_SECONDS
from bench.fleet.network import inside, namespace

from dreamforge.runtime.embedded import GuardedProcess, spawn


@dataclass
class Program:
    """One process. It runs from `start` to `stop`; after a kill it runs again at once.

    `own_ends` has the return codes of ends that nothing here asked for: crashes, and refusals to run.
    """

    name: str
    host: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log_path: Path
    stop_signal: signal.Signals = signal.SIGTERM
    ready_url: str = ""
    process: GuardedProcess | None = None
    own_ends: list[int] = field(default_factory=list)
    _asked_to_end: bool = False
    _wanted: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    _supervisor: "asyncio.Task[None] | None" = field(default=None, repr=False)

    @property
    def kind(self) -> str:
        """Its name without its host or number."""
        return self.name.partition("-")[0]

    @property
    def is_server(self) -> bool:
        """Whether it is an engine that others made."""
        return self.kind in ("nats", "postgres", "s3")

    @property
    def runs(self) -> bool:
        """Whether there is a process now."""
        return self.process is not None and self.process.returncode is None

    def start(self) -> None:
        """Let it run from now on."""
        self._wanted.set()
        if self._supervisor is None:
            self._supervisor = asyncio.create_task(self._supervise(), name=self.name)

    async def _supervise(self) -> None:
        while True:
            await self._wanted.wait()
            with self.log_path.open("ab") as log:
                self.process = await spawn(inside(self.host, *self.command), environment=self.environment, output=log)
            code = await self.process.wait()
            if not self._asked_to_end:
                self.own_ends.append(code)
            self._asked_to_end = False
            await asyncio.sleep(RESTART_SECONDS)

    async def stop(self, grace_seconds: float = 30.0) -> None:
        """End it in order, and let it stay so until `start`."""
        self._wanted.clear()
        if self.process is not None and self.runs:
            self._asked_to_end = True
            await self.process.stop(self.stop_signal, grace_seconds)

    async def kill(self) -> None:
        """SIGKILL; it is started again, unless it was stopped or is held down."""
        if self.process is not None and self.runs:
            self._asked_to_end = True
            await self.process.kill()

    async def hold_down(self) -> None:
        """SIGKILL, and stay so until `start`."""
        self._wanted.clear()
        await self.kill()

    async def close(self) -> None:
        """Stop it for good."""
        await self.stop(grace_seconds=5.0)
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)

    def signal_tree(self, number: signal.Signals) -> None:
        """To the process and all its descendants: a Postgres or a runner does not answer while only half is frozen."""
        for pid in _descendants(self.process.pid) if self.process is not None and self.runs else ():
            _send(pid, number)


def signal_host(host: str, number: signal.Signals) -> None:
    """To every process of the host's namespace."""
    listed = subprocess.run(["ip", "netns", "pids", namespace(host)], capture_output=True, text=True, check=False)
    for pid in listed.stdout.split():
        _send(int(pid), number)


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _descendants(pid: int) -> list[int]:
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += _descendants(int(child))
    return found
