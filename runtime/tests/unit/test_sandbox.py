"""What a process may still do after it has restricted itself, tried by a real process."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dreamforge.runtime.sandbox.restrict import missing
from dreamforge.runtime.sandbox.seccomp import ARCHITECTURES, Architecture, Sockets, program

needs_everything = pytest.mark.skipif(bool(missing()), reason=f"not here: {'; '.join(missing())}")

TRY = """
import ctypes, errno, json, os, signal, socket, subprocess, sys
from dreamforge.runtime.sandbox.restrict import Allowed, of_the_interpreter, restrict_process
from dreamforge.runtime.sandbox.seccomp import Sockets

file, unix = sys.argv[1], sys.argv[2] == "unix"
listener = socket.create_server(("127.0.0.1", 0))
server = socket.socket(socket.AF_UNIX)
server.bind(file + ".socket")
server.listen()
restrict_process(Allowed(readable=of_the_interpreter(), sockets=Sockets(unix=unix)))
found = {}

def attempt(name, act):
    try:
        act()
        found[name] = "ok"
    except OSError as error:
        found[name] = errno.errorcode[error.errno]

def io_uring():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(425, 1, 0) < 0:
        raise OSError(ctypes.get_errno(), "")

attempt("read", lambda: open(file).read())
attempt("write", lambda: open(file, "w"))
attempt("list", lambda: os.listdir(os.path.dirname(file)))
attempt("execute", lambda: subprocess.run(["/bin/sh", "-c", "true"]))
attempt("module", lambda: __import__("wave"))
attempt("signal", lambda: os.kill(os.getppid(), 0))
for name in ("environ", "mem", "maps"):
    attempt(name, lambda: open(f"/proc/{os.getppid()}/{name}", "rb").read(1))
for family in ("AF_INET", "AF_INET6", "AF_NETLINK", "AF_VSOCK", "AF_PACKET", "AF_UNIX"):
    attempt(family, lambda: socket.socket(getattr(socket, family)))
attempt("UDP", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
attempt("pair", lambda: socket.socketpair())
attempt("connect", lambda: socket.socket(socket.AF_UNIX).connect(file + ".socket"))
attempt("io_uring", io_uring)
print(json.dumps(found))
"""


def tried(file: Path, sockets: str) -> dict[str, str]:
    file.write_text("a secret")
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-Pc", TRY, str(file), sockets]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


@needs_everything
def test_a_restricted_process_computes_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "file"
    found = tried(file, "none")
    files = dict.fromkeys(("read", "write", "list", "execute", "environ", "mem", "maps"), "EACCES")
    families = ("AF_INET", "AF_INET6", "AF_NETLINK", "AF_VSOCK", "AF_PACKET", "AF_UNIX", "UDP", "connect")
    refused = files | dict.fromkeys(families, "EPERM") | {"signal": "EPERM", "io_uring": "ENOSYS"}
    assert found == refused | {"module": "ok", "pair": "ok"}
    assert file.read_text() == "a secret"


@needs_everything
def test_sockets_of_this_machine_lead_to_no_other_process(tmp_path: Path) -> None:
    found = tried(tmp_path / "file", "unix")
    assert (found["AF_UNIX"], found["connect"], found["AF_INET"]) == ("ok", "ECONNREFUSED", "EPERM")


@pytest.mark.parametrize("here", ARCHITECTURES.values(), ids=ARCHITECTURES)
@pytest.mark.parametrize("sockets", [Sockets(), Sockets(unix=True), Sockets(unix=True, connect=True)])
def test_the_filter_of_each_architecture_refuses_what_is_not_allowed(sockets: Sockets, here: Architecture) -> None:
    code = program(here, sockets)
    unix, internet = 1, 2
    assert ran(code, here.audit, here.socket, unix) == (0 if sockets.unix else errno.EPERM)
    assert ran(code, here.audit, here.socket, internet) == errno.EPERM
    assert ran(code, here.audit, here.connect, 3) == (0 if sockets.connect else errno.ECONNREFUSED)
    assert ran(code, here.audit, here.socketpair, unix) == 0
    assert ran(code, here.audit, here.socketpair, internet) == errno.EPERM
    assert ran(code, here.audit, 0, 0) == 0
    assert ran(code, here.audit, 425, 0) == ran(code, here.audit, 0x40000029, 2) == errno.ENOSYS
    assert ran(code, 0x40000003, 1, 2) == errno.EPERM  # a program of 32 bits on x86-64: its exit(2)


def ran(code: tuple[tuple[int, int, int, int], ...], audit: int, number: int, argument: int) -> int:
    """The error that a filter answers a call with; 0 where it lets it pass. A small machine for BPF."""
    words, at, value = {0: number, 4: audit, 16: argument}, 0, 0
    while True:
        operation, yes, no, constant = code[at]
        if operation == 0x06:
            return 0 if constant == 0x7FFF0000 else constant & 0xFFFF
        if operation == 0x20:
            value, at = words[constant], at + 1
        else:
            holds = value == constant if operation == 0x15 else value >= constant
            at += 1 + (yes if holds else no)


def test_our_environment_cannot_be_read_by_another_process_of_our_user() -> None:
    script = (
        "import subprocess, sys\n"
        "from dreamforge.runtime.sandbox.privileges import drop_privileges, refuse_inspection\n"
        "drop_privileges()\n"
        "if sys.argv[1] == 'refuse': refuse_inspection()\n"
        "print(subprocess.run([sys.executable, '-c', READ]).returncode)\n"
    )
    read = "import os, sys\ntry: open(f'/proc/{os.getppid()}/environ').read()\nexcept PermissionError: sys.exit(7)\n"
    code = f"READ = {read!r}\n{script}"
    for how, status in (("refuse", "7"), ("leave", "0")):
        done = subprocess.run([sys.executable, "-c", code, how], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == status, how
