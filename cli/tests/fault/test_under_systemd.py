"""A stack under a real systemd: started until it is ready, killed and started again, stopped without a process left.

systemd need not be the first process: a manager of a user runs in a mount namespace of its own, which only root makes.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreamforge.cli.stack_record import StackRecord, read_record
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.embedded.processes import identity
from dreamforge.runtime.testing import eventually

SYSTEMD = Path("/lib/systemd/systemd")
# It starts where this folder exists (sd_booted(3)), and keeps its sockets in that of the user.
MANAGER = "mount -t tmpfs none /run && mkdir /run/systemd /run/systemd/system && exec /lib/systemd/systemd --user"
READY_SECONDS = 300.0

pytestmark = [
    pytest.mark.fault,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not SYSTEMD.exists() or os.geteuid() != 0 or shutil.which("nsenter") is None,
        reason="needs systemd, and root for a mount namespace",
    ),
]


class Machine:
    """A manager of a user with folders of its own, and `dreamforge` as its user calls it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder / "work"
        for each in ("run", "config/dreamforge", "work"):
            (folder / each).mkdir(parents=True, mode=0o700)
        settings = f"FORGE_RUNNER_RENDERER=synthetic\nFORGE_GATEWAY_PORT={free_port()}\n"
        (folder / "config/dreamforge/dreamforge.env").write_text(settings)
        self._manager: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FORGE_")}
        own = {"XDG_RUNTIME_DIR": "run", "XDG_CONFIG_HOME": "config", "HOME": "."}
        return kept | {name: str(self.folder / folder) for name, folder in own.items()} | {"NO_COLOR": "1"}

    async def start(self) -> None:
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", MANAGER]
        self._manager = subprocess.Popen(command, env=self.environment, start_new_session=True)  # noqa: ASYNC220
        await eventually(lambda: self._listens() or None, 30.0)

    def _listens(self) -> bool:
        assert self._manager is not None
        if self._manager.poll() is not None:
            pytest.skip("no manager of a user can be started here")
        return (self.folder / "run/systemd/private").exists()

    def stop(self) -> None:
        if self._manager is not None:
            self._manager.send_signal(signal.SIGTERM)
            self._manager.wait(READY_SECONDS)

    def service(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        assert self._manager is not None
        inside = ["nsenter", f"--target={self._manager.pid}", "--mount", f"--wd={self.work}"]
        command = [*inside, sys.executable, "-m", "dreamforge.cli", "service", *arguments]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=READY_SECONDS, check=False
        )

    def state(self) -> dict[str, str]:
        state: dict[str, str] = json.loads(self.service("status", "--json").stdout)
        return state

    def record(self) -> StackRecord:
        record = read_record(self.work / ".forge")
        assert record is not None
        return record


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    machine.stop()


async def test_a_stack_is_ready_when_it_has_started_comes_back_after_a_kill_and_leaves_nothing(
    machine: Machine,
) -> None:
    await machine.start()
    installed = machine.service("install", "--drain-seconds", "7")
    assert installed.returncode == 0, installed.stderr
    first = machine.record()
    assert first.ready  # Type=notify: it was not started before
    assert machine.state()["StatusText"] == first.gateway_url

    os.kill(first.pid, signal.SIGKILL)
    state = await eventually(lambda: _again(machine.state()), READY_SECONDS)
    second = machine.record()
    assert (second.pid, second.ready) == (int(state["MainPID"]), True)

    assert machine.service("uninstall").returncode == 0
    assert not [each.name for each in second.processes if identity(each.pid)]
    assert machine.service("status").returncode == 3
    assert (machine.folder / "config/dreamforge/dreamforge.env").read_text().startswith("FORGE_RUNNER_RENDERER")


def _again(state: dict[str, str]) -> dict[str, str] | None:
    return state if state["ActiveState"] == "active" and state["NRestarts"] == "1" else None
