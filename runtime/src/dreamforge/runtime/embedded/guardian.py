"""The guardian: a small process between us and a server, so that no server outlives us.

Run as a script with `python -I -S guardian.py CONTROL_FD,HELD_FD... PARENT_PID RUN_AS COMMAND...`; standard
library only, because it must start in milliseconds and must not depend on what it guards against.

Why a separate process: only a parent can wait for a child, and only a living process can react to a death.
It learns of our end in two ways, each sufficient alone: the control socket closes (the kernel closes it for a
process killed with -9 too), or its parent changes. Being the subreaper of everything below it, it finds every
descendant, also those that made a session of their own (Postgres backends), and kills them until none is left.
Should the guardian itself be killed, the kernel kills the server (parent death signal; safe here, as the
guardian has one thread only, while in our own process it would fire when the forking *thread* ends).

On the control socket it writes `pid N` once the command runs, or `error ERRNO` when it could not be executed;
each byte it receives is a signal number to pass on. It ends as the command ended: same code or same signal.
"""

import ctypes
import os
import select
import signal
import sys
from contextlib import suppress
from types import FrameType

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_CHILD_SUBREAPER, PR_CAP_AMBIENT = 1, 4, 8, 36, 47  # prctl.h
PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 2, 1, 2  # linux/prctl.h, linux/capability.h
LINUX_CAPABILITY_VERSION_3 = 0x20080522
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ON_LINUX = sys.platform == "linux"


def prctl(option: int, *arguments: int) -> bool:
    padded = [ctypes.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)[:4]]
    return ON_LINUX and ctypes.CDLL(None).prctl(option, *padded) == 0


def keep_capability(number: int) -> bool:
    """Let the unprivileged user we became keep one capability across exec; False where we may not."""
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    bits = 1 << number
    data = (ctypes.c_uint32 * 6)(bits, bits, bits, 0, 0, 0)  # effective, permitted, inheritable; low, high
    return ctypes.CDLL(None).capset(header, data) == 0 and prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)


def become(run_as: str) -> None:
    """Change to the user `UID:GID[:traverse]`; `traverse` keeps the right to pass through folders closed to it."""
    uid, gid, *options = run_as.split(":")
    os.setgroups([])
    os.setresgid(int(gid), int(gid), int(gid))
    traverse = "traverse" in options
    if traverse:
        prctl(PR_SET_KEEPCAPS, 1)
    os.setresuid(int(uid), int(uid), int(uid))
    if traverse and not keep_capability(CAP_DAC_READ_SEARCH):  # containers often grant only the other one
        keep_capability(CAP_DAC_OVERRIDE)


def execute(command: list[str], run_as: str, guardian_pid: int, failure_fd: int) -> None:
    """In the forked child: become the command, or report the errno and end."""
    try:
        os.setpgid(0, 0)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these, and exec would pass that on
            signal.signal(number, signal.SIG_DFL)
        if run_as != "-":
            become(run_as)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of user, which clears it
        if os.getppid() == guardian_pid:  # else the guardian died before the line above took effect
            os.execvp(command[0], command)
    except OSError as error:
        os.write(failure_fd, str(error.errno).encode())
    finally:
        os._exit(127)


def start(command: list[str], run_as: str) -> tuple[int, str]:
    """Fork and execute; returns (pid, errno text), the latter empty once the command really runs."""
    reading, writing = os.pipe()  # both close on exec: end of file means that exec succeeded
    guardian_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        execute(command, run_as, guardian_pid, writing)
    os.close(writing)
    failure = os.read(reading, 16).decode()
    os.close(reading)
    return pid, failure


def children() -> list[int]:
    """Our direct children, adopted ones included, from /proc (field 4 of stat is the parent)."""
    found = []
    for entry in os.listdir("/proc") if ON_LINUX else ():
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as stat:
                    parent = stat.read().rpartition(")")[2].split()[1]
            except OSError:
                continue  # it ended while we looked
            if int(parent) == os.getpid():
                found.append(int(entry))
    return found


def kill_group(pid: int) -> None:
    """Where descendants cannot be found (macOS): the command's process group, which is most of them."""
    with suppress(OSError):  # the group is empty
        os.killpg(pid, signal.SIGKILL)


def kill_all(pid: int, status: int | None) -> int:
    """Kill the command and every descendant until none is left; returns the command's wait status."""
    while True:
        for child in children() or ([pid] if status is None else []):
            os.kill(child, signal.SIGKILL)
        if not ON_LINUX:
            kill_group(pid)
        try:
            ended, ended_status = os.waitpid(-1, 0)  # its orphans are ours by the time this returns
        except ChildProcessError:
            return status or 0
        if ended == pid:
            status = ended_status


def wait_status(pid: int) -> int | None:
    """Reap whatever ended; the command's status once it is among them."""
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if ended == 0:
            return None
        if ended == pid:
            return status


def forward_signals(control: int, pid: int) -> bool:
    """Forward the signals received on the control socket; False when our parent closed it."""
    try:
        numbers = os.read(control, 64)
    except ConnectionResetError:  # it died before it read our message
        return False
    for number in numbers:
        os.kill(pid, number)
    return bool(numbers)


def guard(control: int, parent_pid: int, pid: int, woken: int) -> int:
    """Wait until the command or our parent ends, then kill what is left. Returns the command's wait status."""
    while True:
        readable, _, _ = select.select([control, woken], [], [])
        status = wait_status(pid)
        if status is not None or os.getppid() != parent_pid:
            return kill_all(pid, status)
        if woken in readable:
            for number in os.read(woken, 64):
                if number in FORWARDED:
                    os.kill(pid, number)
        if control in readable and not forward_signals(control, pid):
            return kill_all(pid, None)


def end_like(status: int) -> None:
    """End as the command did, so that our parent sees its exit code or its signal as if it were its own."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status))


def wake_on_signals() -> int:
    """A descriptor that becomes readable, with the signal's number, whenever a signal arrives."""
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)

    def nothing(_number: int, _frame: FrameType | None) -> None:
        """The wakeup descriptor is what matters; it is written to only if a handler exists."""

    for number in (*FORWARDED, signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(number, nothing)
    return woken


def main(descriptors: str, parent_pid: int, run_as: str, command: list[str]) -> None:
    fds = [int(fd) for fd in descriptors.split(",")]
    for fd in fds:
        os.set_inheritable(fd, False)  # ours alone: the held ones (a lock) must end with us, not with a child
    control = fds[0]
    woken = wake_on_signals()
    prctl(PR_SET_DUMPABLE, 0)  # our environment is that of the command, credentials included
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)  # wakes the loop, which looks whether the parent really changed
    pid, failure = start(command, run_as)
    with suppress(BrokenPipeError):  # our parent died meanwhile; the loop below sees it too
        os.write(control, f"error {failure}\n".encode() if failure else f"pid {pid}\n".encode())
    end_like(guard(control, parent_pid, pid, woken))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:])
