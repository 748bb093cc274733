"""The supervisor's end of one child process: start it, write to it, read from it, end it. No torch here."""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from loguru import logger

from dreamforge.gpu_runner.protocol.frames import FrameDecoder, FrameError, encode_frame
from dreamforge.gpu_runner.protocol.messages import FromChild, Stop, ToChild, from_child_from_frame, to_frame
from dreamforge.gpu_runner.settings import RunnerSettings

OnMessage = Callable[[FromChild], None]


@dataclass(frozen=True, slots=True)
class ChildOptions:
    """How to start a child: options of `worker`, but for one."""

    renderer: str = "diffusers"
    device: str = "auto"
    gpu_index: int = 0
    dtype: str = "auto"
    threads: int = 1
    slots: int = 1
    #: Not passed to the child: how many models it is asked to load before its first task.
    resident_models: int = 2
    resident_bytes: int = 0
    step_delay_seconds: float = 0.0
    log_level: str = "INFO"
    log_json: bool = True

    @classmethod
    def of(cls, settings: RunnerSettings) -> "ChildOptions":
        """As the settings say."""
        return cls(
            renderer=settings.runner_renderer,
            device=settings.runner_device,
            gpu_index=settings.runner_gpu_index,
            dtype=settings.runner_dtype,
            threads=settings.runner_threads,
            slots=settings.runner_slots,
            resident_models=settings.runner_resident_models,
            resident_bytes=settings.runner_resident_bytes,
            step_delay_seconds=settings.runner_step_delay_seconds,
            log_level=settings.log_level,
            log_json=settings.log_json,
        )

    def arguments(self) -> tuple[str, ...]:
        """The command line after `--fd N`."""
        return (
            f"--renderer={self.renderer}",
            f"--device={self.device}",
            f"--gpu-index={self.gpu_index}",
            f"--dtype={self.dtype}",
            f"--threads={self.threads}",
            f"--slots={self.slots}",
            f"--resident-bytes={self.resident_bytes}",
            f"--step-delay-seconds={self.step_delay_seconds}",
            f"--log-level={self.log_level}",
            "--log-json" if self.log_json else "--no-log-json",
        )


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

    @classmethod
    async def start(cls, options: ChildOptions, on_message: OnMessage) -> "Child":
        """A new process, at once; it says Ready when it is. Errors: OSError if it cannot be started."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "dreamforge.gpu_runner.worker.process",
                f"--fd={theirs.fileno()}",
                *options.arguments(),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
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

    def kill(self) -> None:
        """End it now, whatever it does."""
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
