"""The most memory that one run holds. Import this only in the child."""

import torch

from dreamforge.gpu_runner.rendering.torch_device import TorchDevice


class RunPeak:
    """Measures runs on a GPU, one after the other.

    On a CPU nothing is measured: the process's peak cannot be set back, and other tensors of the process are in it.
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

    def run_bytes(self) -> int | None:
        """What the last run held at most beside what was held when it began; None: not measured."""
        return None if self._held_bytes is None else torch.cuda.max_memory_allocated() - self._held_bytes

    def highest_bytes(self) -> int:
        """The most that was reserved so far, over all runs."""
        return max(self._before_bytes, self._device.peak_bytes())
