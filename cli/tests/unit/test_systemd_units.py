"""Units: systemd takes them as they are written, and waits for what an orderly stop needs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dreamforge.cli.main import app
from dreamforge.cli.remote.membership import Membership
from dreamforge.cli.stack.plan import StackOptions, service_names, service_specs
from dreamforge.cli.systemd import manager
from dreamforge.cli.systemd.unit import SERVERS_STOP_SECONDS, Unit, UnitRole, unit_text

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
# Of 10.0 for a service without any restriction; what is left is the network, which it serves.
HIGHEST_EXPOSURE = "2.5"


def unit(folder: Path, role: UnitRole = UnitRole.STACK, *, user: str = "") -> Unit:
    return Unit(
        role=role,
        command=(sys.executable, "-m", "dreamforge.cli", "up"),
        working_dir=folder,
        state_dir=folder / ".forge",
        environment_file=folder / "forge.env",
        user=user,
    )


def analyze(folder: Path, role: UnitRole, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    file = folder / role.unit_name
    file.write_text(text)
    return subprocess.run(["systemd-analyze", *arguments, str(file)], capture_output=True, text=True, check=False)


@needs_systemd
@pytest.mark.parametrize("user", ["", "root"], ids=["of-a-person", "of-the-system"])
@pytest.mark.parametrize("role", UnitRole)
def test_systemd_has_nothing_to_say_about_a_unit_in_any_folder(tmp_path: Path, role: UnitRole, user: str) -> None:
    folder = tmp_path / 'a $HOME of "50%" forges'
    folder.mkdir()
    done = analyze(tmp_path, role, unit_text(unit(folder, role, user=user)), "verify")
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("role", UnitRole)
def test_a_system_unit_is_little_exposed(tmp_path: Path, role: UnitRole) -> None:
    threshold = f"--threshold={int(float(HIGHEST_EXPOSURE) * 10)}"
    text = unit_text(unit(tmp_path, role, user="root")).replace("User=root", "User=dreamforge")
    done = analyze(tmp_path, role, text, "security", "--offline=true", threshold)
    assert done.returncode == 0, done.stdout


def test_systemd_waits_longer_than_an_orderly_stop_takes(tmp_path: Path) -> None:
    stack = unit(tmp_path)
    options = StackOptions(gateway_port=1, drain_seconds=stack.drain_seconds)
    specs = service_specs(options, dict.fromkeys(service_names(options), 1))
    slowest = {spec.kind: spec.stop_seconds for spec in specs}
    assert stack.stop_seconds >= max(slowest.values()) + SERVERS_STOP_SECONDS
    assert unit(tmp_path, UnitRole.RUNNER).stop_seconds > slowest["gpu-runner"]
    assert f"TimeoutStopSec={stack.stop_seconds:g}" in unit_text(stack).splitlines()


def test_printing_a_unit_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    printed = CliRunner().invoke(app, ["service", "install", "--print", "--drain-seconds", "7"])
    assert (
        f"\nEnvironment=FORGE_STATE_DIR={tmp_path}/.forge\nEnvironment=FORGE_RUNNER_DRAIN_SECONDS=7\n" in printed.output
    )
    assert not list(tmp_path.iterdir())


def test_a_runner_is_the_one_that_has_joined_or_has_its_servers_from_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGE_STATE_DIR", str(tmp_path))
    for joined, command in ((False, "-m dreamforge.gpu_runner"), (True, "-m dreamforge.cli runner join")):
        if joined:
            Membership(tmp_path).folder.mkdir()
        printed = CliRunner().invoke(app, ["service", "install", "runner", "--print"])
        assert f"ExecStart={sys.executable} {command}" in printed.output.splitlines()


@pytest.mark.parametrize("command", ["install", "status"])
def test_a_machine_without_systemd_gets_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(manager, "BOOTED", tmp_path / "missing")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    answer = CliRunner().invoke(app, ["service", command])
    assert answer.exit_code != 0
    assert "systemd does not run this machine" in str(answer.exception)
    assert not list(tmp_path.iterdir())


def test_a_system_unit_needs_a_user_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "BOOTED", tmp_path)
    answer = CliRunner().invoke(app, ["service", "install", "--system", "--user", "no-such-user"])
    assert "there is no user no-such-user" in str(answer.exception)
