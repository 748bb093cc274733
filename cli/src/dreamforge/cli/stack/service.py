"""One service process, kept alive: started again with growing pauses whenever it ends without being asked to."""

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from dreamforge.cli.stack.output import OutputPipe
from dreamforge.cli.stack.plan import ServiceSpec, ending, restart_delay_seconds
from dreamforge.cli.stack.record import RunningProcess
from dreamforge.runtime import clock
from dreamforge.runtime.embedded import GuardedProcess, spawn

# A service that ran this long was well: its next end is a first one again.
WELL_AFTER_SECONDS = 30.0
# Longer than any service needs to finish what it has in hand; then it is killed.
STOP_SECONDS = 20.0
LAST_LINES = 15


class KeptService:
    """A child `python -m dreamforge.<service>`.

    `say(text)` hears what happens to it, `listen(line)` what it prints, `changed()` is called when its pid is new.
    """

    def __init__(
        self,
        spec: ServiceSpec,
        environment: Mapping[str, str],
        log_path: Path,
        *,
        say: Callable[[str], None],
        listen: Callable[[str], None],
        changed: Callable[[], None],
        held_fds: tuple[int, ...] = (),
    ) -> None:
        self.spec = spec
        self.log_path = log_path
        self.restarts = 0
        self.ends_in_a_row = 0
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._environment = {**environment, **spec.environment, "PYTHONUNBUFFERED": "1"}
        self._say, self._listen, self._changed = say, listen, changed
        self._held_fds = held_fds
        self._process: GuardedProcess | None = None
        self._stopping = False

    @property
    def running(self) -> RunningProcess | None:
        """What it is right now; None while it is down."""
        if self._process is None or self._process.returncode is not None:
            return None
        return RunningProcess(
            name=self.spec.name,
            pid=self._process.pid,
            address=self.spec.address,
            log=self.log_path,
            restarts=self.restarts,
        )

    async def keep(self) -> None:
        """Run it until `stop` or cancellation. Errors: EmbeddedError when it cannot be executed at all."""
        while not self._stopping:
            started = clock.monotonic_seconds()
            code = await self._run_once()
            if self._stopping:
                return
            well = clock.monotonic_seconds() - started > WELL_AFTER_SECONDS
            self.ends_in_a_row = 1 if well else self.ends_in_a_row + 1
            pause_seconds = restart_delay_seconds(self.ends_in_a_row)
            self._say(f"{ending(code)}; starting it again in {pause_seconds:g} s")
            await asyncio.sleep(pause_seconds)
            self.restarts += 1

    async def _run_once(self) -> int:
        pipe = OutputPipe(self.log_path, self._hear)
        try:
            self._process = await spawn(
                [sys.executable, "-m", self.spec.module],
                environment=self._environment,
                output=pipe.writer,
                held_fds=self._held_fds,
            )
        finally:
            pipe.child_has_it()
        self._changed()
        pump = asyncio.create_task(pipe.pump())
        try:
            return await self._process.wait()
        except BaseException:
            await self._process.kill()  # nobody will stop it once we are gone
            raise
        finally:
            await pump

    def _hear(self, line: str) -> None:
        self.last_lines.append(line)
        self._listen(line)

    async def stop(self) -> None:
        """Ask it to end (SIGTERM) and see it gone; it is not started again."""
        self._stopping = True
        if self._process is not None:
            await self._process.stop(grace_seconds=STOP_SECONDS)
