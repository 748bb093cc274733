"""A service manager that asks to be told when a process is ready is told; others are not."""

import socket
from pathlib import Path

import pytest

from dreamforge.runtime.service.service_manager import SOCKET_VARIABLE, ServiceManager


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_the_manager_that_started_the_process_hears_that_it_is_ready_and_that_it_ends(
    tmp_path: Path, abstract: bool
) -> None:
    path = f"{tmp_path}/notify"
    environment = {SOCKET_VARIABLE: f"@{path}" if abstract else path, "PATH": "/bin"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{path}" if abstract else path)
        listening.settimeout(10.0)
        manager = ServiceManager(environment)
        manager.ready("http://127.0.0.1:8080")
        manager.stopping()
        assert listening.recv(1000) == b"READY=1\nSTATUS=http://127.0.0.1:8080"
        assert listening.recv(1000) == b"STOPPING=1"
    assert environment == {"PATH": "/bin"}  # a child would say that it is the one


def test_without_a_manager_or_with_one_that_is_gone_nothing_happens(tmp_path: Path) -> None:
    ServiceManager({}).ready("here")
    ServiceManager({SOCKET_VARIABLE: str(tmp_path / "gone")}).ready("here")
