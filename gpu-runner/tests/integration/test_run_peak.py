"""The peak of a run is what it allocates beside what was held when it began."""

from pathlib import Path

import pytest

MIB = 2**20


def test_on_a_cpu_it_is_the_resident_set_and_set_back_for_each_run(torch_installed: None) -> None:
    import torch

    from dreamforge.gpu_runner.rendering.run_peak import RunPeak
    from dreamforge.gpu_runner.rendering.torch_device import TorchDevice

    peak = RunPeak(TorchDevice.settle("cpu", "float32", 1))
    for size_bytes in (96 * MIB, 32 * MIB):
        peak.start()
        taken = torch.ones(size_bytes, dtype=torch.uint8)
        del taken
        # Linux counts some pages late, and what other threads of this process do meanwhile is in it.
        assert size_bytes - 2 * MIB < (peak.run_bytes() or 0) < size_bytes + 32 * MIB
    assert peak.highest_bytes() > 96 * MIB


def test_where_the_system_counts_nothing_nothing_is_measured(
    torch_installed: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from dreamforge.gpu_runner.machine import resident_set
    from dreamforge.gpu_runner.rendering import run_peak
    from dreamforge.gpu_runner.rendering.torch_device import TorchDevice

    monkeypatch.setattr(resident_set, "CLEAR_REFS", str(tmp_path / "missing"))
    without = resident_set.ResidentSet()
    monkeypatch.setattr(run_peak, "resident_set", lambda: without)
    peak = run_peak.RunPeak(TorchDevice.settle("cpu", "float32", 1))
    peak.start()
    assert peak.run_bytes() is None


@pytest.mark.gpu
def test_on_a_gpu_it_is_set_back_for_each_run(torch_gpu: None) -> None:
    import torch

    from dreamforge.gpu_runner.rendering.run_peak import RunPeak
    from dreamforge.gpu_runner.rendering.torch_device import TorchDevice

    peak = RunPeak(TorchDevice.settle("auto", "auto", 1))
    held = torch.empty(2**20, dtype=torch.uint8, device="cuda")
    found = []
    for size_bytes in (2**23, 2**22):
        peak.start()
        taken = torch.empty(size_bytes, dtype=torch.uint8, device="cuda")
        del taken
        found.append(peak.run_bytes())
    assert found == [2**23, 2**22]
    assert peak.highest_bytes() >= 2**23 + held.nbytes
