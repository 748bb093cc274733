"""What the three embedded servers have in common: folder, port, start, readiness and stop."""

import asyncio
import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from dreamforge.runtime.embedded.errors import EmbeddedError, PortInUse
from dreamforge.runtime.embedded.folder import FolderLock, last_lines, open_log
from dreamforge.runtime.embedded.guard import GuardedProcess, RunAs, spawn
from dreamforge.runtime.embedded.ports import LOOPBACK, free_port, is_taken
from dreamforge.runtime.embedded.processes import kill_strays

PORT_ATTEMPTS = 5  # a free port may be taken by others between our choice and the server's bind
CHECK_SECONDS = 2.0  # one readiness check; a server that accepts but is not ready must not hang us
PROBE_SECONDS = 10.0  # a server that works may be slow on a busy machine; one that does not must not hang us
PROBLEM_CHARACTERS = 200  # of one line that says why a server does not work
FIRST_POLL_SECONDS, LAST_POLL_SECONDS = 0.005, 0.1  # between readiness checks, growing by half each time


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a server: what to execute, with which environment, as whom."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    run_as: RunAs | None = None


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """One running server, for tables of what runs where."""

    name: str
    pid: int
    address: str
    log_path: Path


class EmbeddedServer(ABC):
    """A real server as a child that cannot outlive us, with its data in `folder` and nowhere else.

    Use as `async with`, or `start()` and `stop()`. `kill()` then `restart()` is for fault tests: port and
    data stay. Not bound to an event loop.
    """

    name: ClassVar[str]
    program: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(
        self, folder: Path, *, port: int | None = None, ready_seconds: float = 60.0, stop_seconds: float = 20.0
    ) -> None:
        """port: None or 0 takes a free one, kept as long as the object exists. ready_seconds bounds a start,
        recovery of its data included; stop_seconds how long it may take to stop before it is killed."""
        self.folder = folder.absolute()
        self.port = port or 0
        self._port_is_given = bool(port)
        self._ready_seconds = ready_seconds
        self._stop_seconds = stop_seconds
        self._lock = FolderLock(self.folder, self.name)
        self._process: GuardedProcess | None = None

    @abstractmethod
    def settings_env(self) -> dict[str, str]:
        """The FORGE_* variables that tell a service how to reach it; complete once it has been started."""

    def service_env(self, user: str) -> dict[str, str]:  # noqa: ARG002 - NATS alone has users
        """The variables of a process that is that user of the bus (contracts.log.permissions)."""
        return self.settings_env()

    @abstractmethod
    async def _prepare(self) -> None:
        """Prepare the data folder; its lock is held when this runs. Must be repeatable."""

    @abstractmethod
    def _launch(self) -> Launch:
        """How to start it on `self.port`."""

    @abstractmethod
    async def _check(self) -> None:
        """One real request in the server's protocol; raises while it does not serve yet."""

    async def _probe(self) -> None:
        """Use it as services do, a write where that is possible; raises while it is unhealthy. Must be repeatable."""
        await self._check()

    async def unhealthy(self) -> str:
        """Why it is of no use although its process runs; "" when it works."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._probe()
        except TimeoutError:
            return f"no answer within {PROBE_SECONDS:g} s"
        except Exception as error:  # whatever the client library raises
            return " ".join(str(error).split())[:PROBLEM_CHARACTERS] or type(error).__name__
        return ""

    def free_bytes(self) -> int:
        """Room on the disk of its folder, for its user."""
        return shutil.disk_usage(self.folder).free

    def _choose_ports(self) -> None:
        """Choose `self.port`; called again when another process took it first."""
        self.port = free_port()

    @property
    def _working_folder(self) -> Path:
        """Where the program runs: no other process of that program does, so strays are recognized by it."""
        return self.folder

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def log_path(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """Errors: EmbeddedError when it is not running."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def processes(self) -> list[ServerProcess]:
        return [ServerProcess(self.name, self.pid, self.address, self.log_path)] if self.is_running else []

    async def start(self) -> None:
        """Returns once the server answers in its own protocol.

        Errors: FolderInUse, PortInUse; EmbeddedError with the end of its log when it ends or does not answer
        within `ready_seconds`. Nothing is left running after an error or a cancellation.
        """
        if self.is_running:
            raise EmbeddedError(self.name, "it is already running")
        await self._lock.acquire()
        try:
            await self._remove_strays()
            await self._prepare()
            await self._start_on_a_port()
        except BaseException:
            self._lock.release()
            raise

    async def _start_on_a_port(self) -> None:
        for attempts_left in reversed(range(PORT_ATTEMPTS)):
            if not self.port:
                self._choose_ports()
            try:
                await self._start_once()
                return
            except PortInUse:
                if self._port_is_given or not attempts_left:
                    raise
                self.port = 0

    async def _start_once(self) -> None:
        if is_taken(self.port):
            raise PortInUse(self.name, f"port {self.port} is in use by another process", port=self.port)
        launch = self._launch()
        log_start_byte = self.log_path.stat().st_size if self.log_path.exists() else 0
        with open_log(self.log_path) as log:
            process = await spawn(
                launch.command,
                environment=launch.environment,
                folder=self._working_folder,
                output=log,
                run_as=launch.run_as,
                held_fds=[self._lock.fileno()],
            )
        try:
            await self._await_ready(process, log_start_byte)
        except BaseException:
            await process.kill()
            raise
        self._process = process
        self._port_is_given = True  # from now on clients know the address, so a restart must keep it

    async def _remove_strays(self) -> None:
        """Kill servers of an earlier run whose guardian was killed as well: the only ones that can be left."""
        async with asyncio.timeout(self._stop_seconds):
            while kill_strays(self._working_folder, self.program):  # noqa: ASYNC110 - others' children
                await asyncio.sleep(FIRST_POLL_SECONDS)

    async def _await_ready(self, process: GuardedProcess, log_start_byte: int) -> None:
        """Wait until it answers, it ends or its time is over."""
        ready = asyncio.ensure_future(self._poll_until_ready())
        ended = asyncio.ensure_future(process.wait())
        try:
            await asyncio.wait({ready, ended}, timeout=self._ready_seconds, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                return ready.result()
        finally:
            ready.cancel()
            ended.cancel()
            await asyncio.gather(ready, ended, return_exceptions=True)
        lines = last_lines(self.log_path, log_start_byte)
        if "address already in use" in lines.lower():
            raise PortInUse(self.name, f"port {self.port} is in use by another process", self.log_path, port=self.port)
        code = process.returncode
        what = f"it ended with {code}" if code is not None else f"no answer within {self._ready_seconds:g} s"
        raise EmbeddedError(self.name, f"{what}; the end of its log:\n{lines}\n", self.log_path)

    async def _poll_until_ready(self) -> None:
        pause_seconds, problem = FIRST_POLL_SECONDS, True
        while problem:
            with suppress(Exception):  # whatever the client library raises means "not yet"; the caller bounds it
                async with asyncio.timeout(CHECK_SECONDS):
                    await self._check()
                problem = False
            if problem:
                await asyncio.sleep(pause_seconds)
                pause_seconds = min(LAST_POLL_SECONDS, pause_seconds * 1.5)

    async def wait(self) -> int:
        """Wait until it has ended; its return code."""
        return await self._running().wait()

    async def stop(self) -> None:
        """Let it end in order, then release its folder. Does nothing when it is not running."""
        process, self._process = self._process, None
        try:
            if process is not None:
                await process.stop(self.stop_signal, self._stop_seconds)
        finally:
            if process is not None:
                process.send_signal(signal.SIGKILL)  # we were cancelled while it was stopping
            self._lock.release()

    async def kill(self) -> None:
        """SIGKILL it and all its children, as a fault would. The folder stays ours, so `restart()` may follow."""
        await self._running().kill()

    async def restart(self) -> None:
        """Start it again on the same port and data, whether it was killed or still runs."""
        await self.stop()
        await self.start()

    def _running(self) -> GuardedProcess:
        if self._process is None:
            raise EmbeddedError(self.name, "it has not been started")
        return self._process

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
