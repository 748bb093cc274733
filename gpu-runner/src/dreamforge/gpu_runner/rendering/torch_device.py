"""torch's side of the device: which one, how exact, how many threads. Import this only in the child."""

import os
import platform
import resource
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import torch

from dreamforge.contracts.models.descriptor import Dtype
from dreamforge.gpu_runner.machine.device import cpu_name
from dreamforge.gpu_runner.machine.libraries import MKL_MODE
from dreamforge.gpu_runner.machine.memory import system_memory
from dreamforge.gpu_runner.protocol.recipe import Engine
from dreamforge.gpu_runner.rendering.eight_bit_layers import eight_bit_refusals
from dreamforge.gpu_runner.rendering.renderer import DeviceReport

DtypeName = Literal["auto", "float32", "bfloat16", "float16"]
#: Packages whose code decides pixels, as their distributions are called.
PIXEL_PACKAGES = {
    "diffusers": "diffusers",
    "dreamforge": "dreamforge-gpu-runner",
    "torch": "torch",
    "transformers": "transformers",
}
#: A choice, not a measurement: a running render needs memory beside the weights. FORGE_RUNNER_RESIDENT_BYTES overrides.
RESIDENT_SHARE_CUDA = 0.8
#: Less, because a machine's memory is shared: other processes, the page cache, the images on their way.
RESIDENT_SHARE_CPU = 0.5
DTYPE_NAMES: dict[torch.dtype, Dtype] = {
    torch.float32: "float32",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}


@dataclass(frozen=True, slots=True)
class TorchDevice:
    """A device that torch can use, settled once at the start of the child."""

    device: torch.device
    dtype: torch.dtype
    threads: int
    note: str
    #: Whether it has memory of its own, beside which models can wait in the host's.
    own_memory: bool = False

    @classmethod
    def settle(cls, choice: str, dtype: str, threads: int) -> "TorchDevice":
        """Take the GPU if it is asked for and torch can use it, else the CPU and say why."""
        torch.set_num_threads(threads)
        kind, note = _kind(choice)
        if kind == "cuda":
            # Same recipe, same bytes: refuse kernels that add in a different order from run to run.
            torch.use_deterministic_algorithms(True, warn_only=True)
            torch.backends.cudnn.benchmark = False
        return cls(torch.device(kind), _dtype(dtype, kind), threads, note, own_memory=kind == "cuda")

    @property
    def kind(self) -> Literal["cpu", "cuda"]:
        """The device's kind as recipes spell it."""
        return "cuda" if self.device.type == "cuda" else "cpu"

    @property
    def dtype_name(self) -> Dtype:
        """The precision as recipes and tiers spell it."""
        return DTYPE_NAMES[self.dtype]

    def resident_bytes(self) -> int:
        """What models may take unless a setting says: the rest is for the tensors of a running render."""
        share = RESIDENT_SHARE_CUDA if self.kind == "cuda" else RESIDENT_SHARE_CPU
        return int(self.report().total_bytes * share)

    def limit_to_part(self, shares: int) -> None:
        """Allocate no more than a part of a GPU that several runners share: beyond it a render is out of memory."""
        if self.kind == "cuda" and shares > 1:
            torch.cuda.set_per_process_memory_fraction(1 / shares)

    def engine(self) -> Engine:
        """What goes into every recipe of this device."""
        versions = {name: version(package) for name, package in PIXEL_PACKAGES.items()}
        # Not the distribution's version: the build ("2.13.0+cpu") decides which kernels run.
        versions["torch"] = str(torch.__version__)
        if self.kind == "cpu" and torch.has_mkl and (mode := os.environ.get(MKL_MODE)):
            versions[MKL_MODE.lower()] = mode
        return Engine(
            renderer="diffusers",
            device=self.kind,
            device_name=self._name(),
            dtype=self.dtype_name,
            threads=self.threads,
            versions=versions | {"python": platform.python_version()},
        )

    def report(self) -> DeviceReport:
        """Memory and driver, now, and what it computes in."""
        ways = eight_bit_refusals(self.device)
        if self.kind == "cpu":
            memory = system_memory()
            return DeviceReport(memory.total_bytes, memory.free_bytes, "", self.note, ways)
        free_bytes, total_bytes = torch.cuda.mem_get_info()
        return DeviceReport(total_bytes, free_bytes, f"CUDA {torch.version.cuda}", self.note, ways)

    def peak_bytes(self) -> int:
        """Peak of memory reserved on the GPU; on a CPU the process's peak (ru_maxrss is in KiB on Linux)."""
        if self.kind == "cuda":
            return int(torch.cuda.max_memory_reserved())
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def release(self) -> None:
        """Give memory that nothing uses any more back to the driver."""
        if self.kind == "cuda":
            torch.cuda.empty_cache()

    def _name(self) -> str:
        if self.kind == "cuda":
            return str(torch.cuda.get_device_name())
        return f"{cpu_name()}, {torch.backends.cpu.get_cpu_capability()}"


def _kind(choice: str) -> tuple[str, str]:
    if choice == "cpu":
        return "cpu", ""
    if torch.cuda.is_available():
        return "cuda", ""
    if torch.version.cuda is None:
        return "cpu", f"this torch ({torch.__version__}) is built for the CPU; rendering on the CPU"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    return "cpu", f"torch sees no GPU (CUDA_VISIBLE_DEVICES={visible}); rendering on the CPU"


def _dtype(name: str, kind: str) -> torch.dtype:
    if name == "auto":
        # bfloat16 has float32's range: no NaN from the SDXL autoencoder, which float16 is known for.
        return torch.bfloat16 if kind == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
