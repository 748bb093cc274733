"""The peak of a run is what it allocates beside what was held when it began."""

import pytest


def test_on_a_cpu_nothing_is_measured(torch_installed: None) -> None:
    from dreamforge.gpu_runner.rendering.run_peak import RunPeak
    from dreamforge.gpu_runner.rendering.torch_device import TorchDevice

    peak = RunPeak(TorchDevice.settle("cpu", "float32", 1))
    peak.start()
    assert peak.run_bytes() is None
    assert peak.highest_bytes() > 0


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
