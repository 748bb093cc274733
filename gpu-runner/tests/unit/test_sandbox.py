"""What a child process may still do after it has entered its sandbox, tried by a real process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dreamforge.gpu_runner.protocol.child_options import ChildOptions
from dreamforge.gpu_runner.supervisor.child_process import child_environment
from dreamforge.runtime.sandbox.restrict import missing

TRY = """
import json, os, socket, sys, tempfile
from dreamforge.gpu_runner.worker.sandbox import enter

listener = socket.create_server(("127.0.0.1", 0))
said = enter(sys.argv[1])
found = {"said": said}

def attempt(name, act):
    try:
        act()
        found[name] = "ok"
    except OSError as error:
        found[name] = type(error).__name__

attempt("read", lambda: open(sys.argv[2]).read())
attempt("overwrite", lambda: open(sys.argv[2], "w"))
attempt("create", lambda: open(sys.argv[2] + ".new", "w"))
attempt("remove", lambda: os.unlink(sys.argv[2]))
attempt("temporary", lambda: tempfile.NamedTemporaryFile().close())
attempt("connect", lambda: socket.create_connection(listener.getsockname(), timeout=5).close())
attempt("UDP", lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close())
attempt("driver", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).bind(b"\\0cuda-uvmfd-%d" % os.getpid()))
attempt("signal", lambda: os.kill(os.getppid(), 0))
attempt("environ", lambda: open(f"/proc/{os.getppid()}/environ").read())
print(json.dumps(found))
"""


def tried(mode: str, file: Path) -> dict[str, str]:
    file.write_text("a model")
    done = subprocess.run([sys.executable, "-c", TRY, mode, str(file)], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(bool(missing()), reason=f"not here: {'; '.join(missing())}")
def test_a_child_reads_and_writes_nothing_but_its_own(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    found = tried("required", file)
    assert found.pop("said").startswith("sandbox: files are written only below ")
    attacks = ("overwrite", "create", "remove", "connect", "UDP", "signal", "environ")
    assert found == dict.fromkeys(("read", "temporary", "driver"), "ok") | dict.fromkeys(attacks, "PermissionError")
    assert file.read_text() == "a model"


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    found = tried("off", tmp_path / "file")
    assert "is off" in found.pop("said")
    assert set(found.values()) == {"ok"}


def test_a_child_gets_no_secrets() -> None:
    given = {
        "PATH": "/bin",
        "CUDA_VISIBLE_DEVICES": "1",
        "OMP_NUM_THREADS": "2",
        "VENDOR_FLAG": "1",
        "FORGE_S3_SECRET_KEY": "s",
        "FORGE_DATABASE_URL": "postgresql://u:p@h/d",
        "AWS_SECRET_ACCESS_KEY": "s",
        "HF_TOKEN": "s",
        "GITHUB_TOKEN": "s",
        "PGPASSWORD": "s",
        "https_proxy": "http://user:password@proxy",
    }
    kept = {"PATH", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"}
    assert set(child_environment(ChildOptions(), given)) == kept
    named = ChildOptions(child_environment="VENDOR_FLAG, OTHER")
    assert set(child_environment(named, given)) == {*kept, "VENDOR_FLAG"}
