"""Without a usable GPU the runner degrades to the CPU and says why; with one it counts its memory."""

from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

from dreamforge.gpu_runner.machine import device, memory
from dreamforge.gpu_runner.machine.device import make_uvm_device, probe, refresh, visible_gpus


def _no_driver() -> None:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A driver that answers: NVML is the border here, and this machine may have none."""
    state = SimpleNamespace(free=7 * 2**30, broken=False)

    def info(_handle: object, version: object) -> SimpleNamespace:
        if state.broken:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return SimpleNamespace(total=8 * 2**30, free=state.free)

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 3)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUUID", lambda handle: f"GPU-{handle}{handle}-7")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", info)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda handle: "NVIDIA Test")
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: b"600.1")
    return state


def test_no_driver_degrades_to_the_cpu_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlInit", _no_driver)
    device = probe("auto")
    assert device.kind == "cpu"
    assert "Not Found" in device.note or "not found" in device.note.lower()
    assert 0 < device.free_bytes <= device.total_bytes


def test_a_gpu_is_taken_and_its_memory_counted(gpu: SimpleNamespace) -> None:
    device = probe("auto")
    assert (device.kind, device.name, device.driver) == ("cuda", "NVIDIA Test", "600.1")
    gpu.free = 5
    assert refresh(device).free_bytes == 5


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        (None, (0, 1, 2)),
        ("", ()),
        ("2,0", (2, 0)),
        ("GPU-11, GPU-2", (1, 2)),
        ("1,7,2", (1,)),
        ("GPU-", ()),
    ],
)
def test_the_gpus_of_a_machine_are_those_that_cuda_would_see(
    gpu: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, listed: str | None, found: tuple[int, ...]
) -> None:
    monkeypatch.setattr(device, "version", lambda _: "2.13.0+cu130")
    environment = {} if listed is None else {"CUDA_VISIBLE_DEVICES": listed}
    assert visible_gpus("auto", environment) == found
    assert visible_gpus("cpu", environment) == ()
    monkeypatch.setattr(device, "version", lambda _: "2.13.0+cpu")
    assert visible_gpus("auto", environment) == (), "torch would use none of them"


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlInit", _no_driver)
    assert visible_gpus("auto", {}) == ()


def test_a_request_for_the_cpu_needs_no_note(gpu: SimpleNamespace) -> None:
    assert (probe("cpu").kind, probe("cpu").note) == ("cpu", "")


def test_a_gpu_that_stops_answering_has_no_room(gpu: SimpleNamespace) -> None:
    device = probe("auto")
    gpu.broken = True
    assert refresh(device).free_bytes == 0
    assert refresh(device).note


def test_a_containers_limit_counts_where_it_is_less(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert memory.system_memory() == memory.Memory(1_000_000, 600_000)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.system_memory().total_bytes > 1_000_000


def test_a_device_file_that_is_missing_is_made_before_the_child_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program, calls = tmp_path / "nvidia-modprobe", tmp_path / "calls"
    program.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n')
    program.chmod(0o700)
    monkeypatch.setattr(device, "UVM_DEVICE", tmp_path / "nvidia-uvm")
    monkeypatch.setenv("PATH", "")
    make_uvm_device()
    monkeypatch.setenv("PATH", str(tmp_path))
    make_uvm_device()
    device.UVM_DEVICE.touch()
    make_uvm_device()
    assert calls.read_text() == "-c0 -u\n"
