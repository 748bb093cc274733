"""The supervisor's end of one child process: start it, write to it, read from it, end it. No torch here."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import cast

from loguru import logger

from dreamforge.gpu_runner.machine.memory import kernel_kills
from dreamforge.gpu_runner.protocol.child_options import ChildOptions
from dreamforge.gpu_runner.protocol.frames import FrameDecoder, FrameError, encode_frame
from dreamforge.gpu_runner.protocol.messages import FromChild, Stop, ToChild, from_child_from_frame, to_frame
from dreamforge.gpu_runner.settings import RunnerSettings
from dreamforge.runtime.sandbox.environment import renderer_environment

OnMessage = Callable[[FromChild], None]


def child_environment(options: ChildOptions, given: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: of what is given, what it reads; no settings of ours and no secrets."""
    return renderer_environment(given, {name.strip() for name in options.child_environment.split(",")})


def child_options(settings: RunnerSettings) -> ChildOptions:
    """The options that a runner's settings give: `runner_X` where there is one, else the common setting X."""
    names = {name for field in ChildOptions.model_fields for name in (field, f"runner_{field}")}
    values = settings.model_dump(include=names)
    options = ChildOptions(**{name.removeprefix("runner_"): value for name, value in values.items()})
    folder = settings.state_dir.absolute() / "compiled" / settings.runner_id
    return options.model_copy(update={"compile_cache": str(folder)})


class _MessageReader(asyncio.Protocol):
    """Turns what arrives into messages; `gone` is set once nothing more can come."""

    def __init__(self, on_message: OnMessage) -> None:
        self._on_message = on_message
        self._decoder = FrameDecoder()
        self._transport: asyncio.Transport | None = None
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # not an instance of it under uvloop

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                self._on_message(from_child_from_frame(frame))
        except FrameError as error:
            logger.error("the child broke the protocol: {}", error)
            assert self._transport is not None
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - the cause does not matter
        self.gone.set()


class Child:
    """One process. Make it with `start`; every message goes to `on_message`, on the event loop."""

    def __init__(
        self, process: asyncio.subprocess.Process, transport: asyncio.Transport, reader: _MessageReader
    ) -> None:
        self._process, self._transport, self._reader = process, transport, reader
        self._kernel_kills, self._was_killed = kernel_kills(), False

    @classmethod
    async def start(cls, options: ChildOptions, on_message: OnMessage) -> "Child":
        """A new process, at once; it says Ready when it is. Errors: OSError if it cannot be started."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-Pm",
                "dreamforge.gpu_runner.worker",
                f"--fd={theirs.fileno()}",
                f"--options={options.model_dump_json()}",
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                env=child_environment(options, os.environ),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()  # so that the child's death closes the last other end, which is how it is noticed
        loop = asyncio.get_running_loop()
        transport, reader = await loop.create_unix_connection(lambda: _MessageReader(on_message), sock=ours)
        return cls(process, transport, reader)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """True until its end of the socket has closed."""
        return not self._reader.gone.is_set()

    def send(self, message: ToChild) -> None:
        """Send it a message; without effect once it has ended."""
        if self.alive:
            self._transport.write(encode_frame(to_frame(message)))

    async def wait_gone(self) -> int:
        """Wait until nothing more can come from it, then for its exit status (negative: the signal)."""
        await self._reader.gone.wait()
        self._transport.close()
        return await self._process.wait()

    @property
    def memory_was_full(self) -> bool:
        """Whether it was killed, not by us, and the kernel has ended processes for want of memory since its start."""
        was_killed = self._process.returncode == -signal.SIGKILL and not self._was_killed
        return was_killed and kernel_kills() > self._kernel_kills

    def kill(self) -> None:
        """End it now, whatever it does."""
        self._was_killed = True
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def stop(self, patience_seconds: float) -> int:
        """Let it finish what it has, for a while, then kill it; its exit status."""
        self.send(Stop())
        try:
            async with asyncio.timeout(patience_seconds):
                return await self.wait_gone()
        except TimeoutError:
            self.kill()
            return await self.wait_gone()
