"""Starts a process that cannot outlive us, however we end; for our servers and for `dreamforge up`."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dreamforge.runtime.embedded.errors import EmbeddedError

GUARDIAN_SCRIPT = Path(__file__).with_name("guardian.py")


@dataclass(frozen=True, slots=True)
class RunAs:
    """The user a command runs as, for commands that refuse to run as root.

    `traverse`: keep the right to pass through folders that are closed to that user, so that a data folder
    below a private home works without opening that home to other users.
    """

    uid: int
    gid: int
    traverse: bool = False

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid}" + (":traverse" if self.traverse else "")


class GuardedProcess:
    """A running command; all its descendants end when it ends, or when we do.

    Not bound to an event loop: it may be started in one and awaited or killed in another. `pid` is the command's
    own, `guardian_pid` that of the process that guards it.
    """

    def __init__(self, guardian: "subprocess.Popen[bytes]", control: socket.socket, pid: int) -> None:
        self._guardian = guardian
        self._control = control
        self.pid = pid

    @property
    def guardian_pid(self) -> int:
        return self._guardian.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; then its exit code, or minus the signal that ended it."""
        return self._guardian.poll()

    async def wait(self) -> int:
        """The return code, once the command and all its descendants have ended."""
        if self.returncode is None:
            await _readable(self._control)  # only end of file comes after the first line
        return self._guardian.wait()

    def send_signal(self, number: signal.Signals) -> None:
        """Pass a signal to the command; nothing happens when it has ended (its pid is never reused early)."""
        try:
            self._control.send(bytes([number]))
        except OSError:
            return  # the guardian is gone, and so is the command

    async def stop(self, number: signal.Signals = signal.SIGTERM, grace_seconds: float = 10.0) -> int:
        """Ask it to end, kill it after `grace_seconds`; returns once it and its descendants are gone."""
        self.send_signal(number)
        try:
            async with asyncio.timeout(grace_seconds):
                return await self.wait()
        except TimeoutError:
            return await self.kill()

    async def kill(self) -> int:
        """End it at once (SIGKILL), as a fault would; returns once it and its descendants are gone."""
        self.send_signal(signal.SIGKILL)
        return await self.wait()


async def spawn(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    stdin: int = subprocess.DEVNULL,
    output: int | IO[bytes] | None = None,
    run_as: RunAs | None = None,
    held_fds: Sequence[int] = (),
) -> GuardedProcess:
    """Start `command` under a guardian of its own; returns once it really runs.

    environment: None passes ours on. folder: its working folder, None for ours. stdin: a descriptor, empty if not
    given. output: where stdout and
    stderr go, a descriptor or file (to read lines: `os.pipe()`, pass the writing end, close your copy); None
    for ours. held_fds: descriptors that stay open, in the guardian only, until the command
    and all its descendants have ended: a lock on one is released when the last of them is gone.
    Errors: EmbeddedError when the command cannot be executed.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        descriptors = [theirs.fileno(), *held_fds]
        arguments = [",".join(map(str, descriptors)), str(os.getpid()), str(run_as or "-")]
        guardian = subprocess.Popen(  # noqa: ASYNC220 - asyncio's would be bound to this loop
            [sys.executable, "-I", "-S", str(GUARDIAN_SCRIPT), *arguments, *command],
            env=environment,
            cwd=folder,
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT if output is not None else None,
            pass_fds=descriptors,
            umask=0o077,  # what servers and services write is for their user alone
            start_new_session=True,  # Ctrl-C must reach us only: we stop things in order
        )
    ours.setblocking(False)
    try:
        return GuardedProcess(guardian, ours, await _started(ours, command))
    except BaseException:
        ours.close()  # the guardian takes this as our end and cleans up
        guardian.wait()
        raise


async def _started(control: socket.socket, command: Sequence[str]) -> int:
    """The command's pid, as its guardian reports it."""
    await _readable(control)
    kind, _, value = control.recv(64).decode().strip().partition(" ")
    if kind == "pid":
        return int(value)
    reason = os.strerror(int(value)) if value else "its guardian ended at once"
    raise EmbeddedError(Path(command[0]).name, f"{command[0]} could not be executed: {reason}")


async def _readable(connection: socket.socket) -> None:
    """Wait for data or end of file. On a separate descriptor, so that several callers may wait for the same socket."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[None] = loop.create_future()
    watched = os.dup(connection.fileno())
    try:
        loop.add_reader(watched, _settle, arrived)
        await arrived
    finally:
        loop.remove_reader(watched)
        os.close(watched)


def _settle(arrived: "asyncio.Future[None]") -> None:
    if not arrived.done():
        arrived.set_result(None)
