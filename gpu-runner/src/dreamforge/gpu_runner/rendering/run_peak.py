"""The most memory that one run holds. Import this only in the child."""

import torch

from dreamforge.gpu_runner.machine.resident_set import resident_set
from dreamforge.gpu_runner.rendering.torch_device import TorchDevice


class RunPeak:
    """Measures runs, one after the other: on a GPU what torch allocates, else the resident set of this process.

    In the resident set is all that the process holds, and so what is encoded or read beside a run as well.
    """

    def __init__(self, device: TorchDevice) -> None:
        self._device = device
        self._held_bytes: int | None = None
        self._before_bytes = 0

    def start(self) -> None:
        """A run begins: what is held now is not its own."""
        self._before_bytes = self.highest_bytes()
        if self._device.kind == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self._held_bytes = torch.cuda.memory_allocated()
        else:
            self._held_bytes = resident_set().reset()

    def run_bytes(self) -> int | None:
        """What the last run held at most beside what was held when it began; None: not measured."""
        if self._held_bytes is None:
            return None
        peak_bytes = torch.cuda.max_memory_allocated() if self._device.kind == "cuda" else resident_set().peak_bytes()
        return max(0, peak_bytes - self._held_bytes)

    def highest_bytes(self) -> int:
        """The most that was reserved so far, over all runs."""
        return max(self._before_bytes, self._device.peak_bytes())
