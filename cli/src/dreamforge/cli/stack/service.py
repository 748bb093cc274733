"""One supervised service process: restarted with growing delays whenever it ends without a request to stop."""

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from pathlib import Path

from dreamforge.cli.stack.pipes import InputPipe, OutputPipe
from dreamforge.cli.stack.plan import ServiceSpec, ending, restart_delay_seconds
from dreamforge.cli.stack_record import RunningProcess
from dreamforge.runtime import clock
from dreamforge.runtime.embedded import GuardedProcess, spawn
from dreamforge.runtime.service.settings import EXIT_SETTINGS
from dreamforge.runtime.service.settings_on_stdin import SETTINGS_ON_STDIN, as_input

# A service that ran this long was healthy: its next end counts as the first.
HEALTHY_AFTER_SECONDS = 30.0
LAST_LINES = 15


async def no_more() -> dict[str, str]:
    """The settings of a service that has all of them from its start."""
    return {}


class SupervisedService:
    """A child `python -m dreamforge.<service>`, in `environment`; it waits for `settings` before it uses any.

    Calls `on_event(text)` for each exit, `on_output(line)` for each line of output, `on_start()` for each new pid.
    """

    def __init__(
        self,
        spec: ServiceSpec,
        environment: Mapping[str, str],
        log_path: Path,
        *,
        on_event: Callable[[str], None],
        on_output: Callable[[str], None],
        on_start: Callable[[], None],
        settings: Callable[[], Awaitable[Mapping[str, str]]] = no_more,
        held_fds: tuple[int, ...] = (),
    ) -> None:
        self.spec = spec
        self.log_path = log_path
        self.restarts = 0
        self.ends_in_a_row = 0
        self.settings_refused = False
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._environment = {**environment, **spec.environment, "PYTHONUNBUFFERED": "1"}
        self._on_event, self._on_output, self._on_start = on_event, on_output, on_start
        self._settings, self._held_fds = settings, held_fds
        self._process: GuardedProcess | None = None
        self._stopping = False

    @property
    def running(self) -> RunningProcess | None:
        """Its current process; None while it is down."""
        if self._process is None or self._process.returncode is not None:
            return None
        return RunningProcess(
            name=self.spec.name,
            pid=self._process.pid,
            address=self.spec.address,
            log=self.log_path,
            restarts=self.restarts,
        )

    async def supervise(self) -> None:
        """Run and restart it until `stop` or cancellation. Errors: EmbeddedError when it cannot be executed at all."""
        while not self._stopping:
            started = clock.monotonic_seconds()
            code = await self._run_once()
            if self._stopping:
                return
            self.settings_refused = code == EXIT_SETTINGS
            healthy = clock.monotonic_seconds() - started > HEALTHY_AFTER_SECONDS
            self.ends_in_a_row = 1 if healthy else self.ends_in_a_row + 1
            pause_seconds = restart_delay_seconds(self.ends_in_a_row)
            self._on_event(f"{ending(code)}; restarting in {pause_seconds:g} s")
            await asyncio.sleep(pause_seconds)
            self.restarts += 1

    async def _run_once(self) -> int:
        with closing(InputPipe()) as settings:
            output = OutputPipe(self.log_path, self._record)
            try:
                self._process = await spawn(
                    [sys.executable, "-m", self.spec.module, SETTINGS_ON_STDIN],
                    environment=self._environment,
                    stdin=settings.reader,
                    output=output.writer,
                    held_fds=self._held_fds,
                )
            finally:
                settings.close_reader()
                output.close_writer()
            self._on_start()
            return await self._until_its_end(self._process, settings, output)

    async def _until_its_end(self, process: GuardedProcess, settings: InputPipe, output: OutputPipe) -> int:
        giving, copying = asyncio.create_task(self._give(settings)), asyncio.create_task(output.copy())
        try:
            return await process.wait()
        except BaseException:
            await process.kill()  # no other code stops it after this
            raise
        finally:
            giving.cancel()
            await asyncio.wait({giving})
            await copying

    async def _give(self, stdin: InputPipe) -> None:
        stdin.write_all(as_input(await self._settings()))

    def _record(self, line: str) -> None:
        self.last_lines.append(line)
        self._on_output(line)

    async def stop(self) -> None:
        """Send SIGTERM and wait for its end; it is not restarted."""
        self._stopping = True
        if self._process is not None:
            await self._process.stop(grace_seconds=self.spec.stop_seconds)
