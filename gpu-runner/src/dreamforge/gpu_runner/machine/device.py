"""Which device there is and how much memory it has, asked of the driver and never of torch.

The supervisor calls this at every heartbeat, and it must neither import torch nor hold a CUDA context.
"""

import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import takewhile
from pathlib import Path
from typing import Literal

import pynvml

from dreamforge.contracts.readable_sizes import readable_size
from dreamforge.gpu_runner.machine.memory import system_memory

CPUINFO = Path("/proc/cpuinfo")
UVM_DEVICE, UVM_SECONDS = Path("/dev/nvidia-uvm"), 30.0
DeviceChoice = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class LocalDevice:
    """One device as the driver sees it, now."""

    kind: Literal["cpu", "cuda"]
    name: str
    #: Driver version; empty on a CPU.
    driver: str
    total_bytes: int
    free_bytes: int
    #: Why it is this device and not a GPU; empty if it is what was asked for.
    note: str = ""
    #: What the driver calls this one card, on every machine; empty on a CPU.
    uuid: str = ""

    def __str__(self) -> str:
        """What it is, in words.

        >>> str(LocalDevice("cuda", "NVIDIA H100", "580.65", 80 * 2**30, 79 * 2**30))
        'cuda on NVIDIA H100, driver 580.65, 79.0 GiB of 80.0 GiB free'
        """
        driver = f", driver {self.driver}" if self.driver else ""
        room = f"{readable_size(self.free_bytes)} of {readable_size(self.total_bytes)} free"
        return f"{self.kind} on {self.name}{driver}, {room}"


def probe(choice: DeviceChoice = "auto", *, gpu_index: int = 0) -> LocalDevice:
    """The device to render on: GPU `gpu_index` if there is one and it is asked for, else the CPU.

    Without a driver, or with a broken one, this degrades to the CPU and says why in `note`: a runner
    that renders slowly is worth more than one that does not start.
    """
    if choice == "cpu":
        return _cpu("")
    try:
        return _gpu(gpu_index)
    except pynvml.NVMLError as error:
        return _cpu(f"no usable NVIDIA GPU ({error}); rendering on the CPU")


def visible_gpus(choice: DeviceChoice, environment: Mapping[str, str]) -> tuple[int, ...]:
    """The GPUs that may be used, as nvidia-smi counts them: those in CUDA_VISIBLE_DEVICES, or all.

    None without a driver, or with a build of torch that uses none. CUDA itself ends that list at the first entry which
    it does not know, and so does this.
    """
    if choice == "cpu" or _torch_is_for_processors():
        return ()
    try:
        uuids = _uuids()
    except pynvml.NVMLError:
        return ()
    listed = environment.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return tuple(range(len(uuids)))
    found = (_index_of(entry.strip(), uuids) for entry in listed.split(","))
    return tuple(index for index in takewhile(lambda index: index is not None, found) if index is not None)


def _torch_is_for_processors() -> bool:
    """By the name of its build, since importing it takes seconds."""
    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False


def _index_of(entry: str, uuids: Sequence[str]) -> int | None:
    """Which GPU an entry names: by number, or by a UUID or how it begins."""
    if entry.isdecimal():
        return int(entry) if int(entry) < len(uuids) else None
    named = [index for index, uuid in enumerate(uuids) if entry.startswith("GPU-") and uuid.startswith(entry)]
    return named[0] if len(named) == 1 else None


def _uuids() -> list[str]:
    pynvml.nvmlInit()
    try:
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        return [_text(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    finally:
        pynvml.nvmlShutdown()


def make_uvm_device() -> None:
    """Have the driver's own program make the device file of unified memory, which it does not at boot.

    CUDA starts that program itself when it is started first, but our child, which may gain no privileges, cannot.
    """
    if not UVM_DEVICE.exists() and (program := shutil.which("nvidia-modprobe")):
        with suppress(OSError, subprocess.SubprocessError):  # then CUDA says what is missing
            subprocess.run((program, "-c0", "-u"), stdin=subprocess.DEVNULL, timeout=UVM_SECONDS, check=False)


def refresh(device: LocalDevice, *, gpu_index: int = 0) -> LocalDevice:
    """The same device with its memory as of now; unchanged, with a note, if it stopped answering."""
    if device.kind == "cpu":
        memory = system_memory()
        return replace(device, total_bytes=memory.total_bytes, free_bytes=memory.free_bytes)
    try:
        return _gpu(gpu_index)
    except pynvml.NVMLError as error:
        return replace(device, free_bytes=0, note=f"the GPU does not answer ({error})")


def cpu_name() -> str:
    """The processor's model; kernels, and with them pixels, depend on it."""
    with suppress(OSError):
        for line in CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpu(note: str) -> LocalDevice:
    memory = system_memory()
    return LocalDevice("cpu", cpu_name(), "", memory.total_bytes, memory.free_bytes, note)


def _gpu(index: int) -> LocalDevice:
    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        # Version 2 counts memory that the driver keeps for itself apart from what is in use.
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
        name, driver = pynvml.nvmlDeviceGetName(handle), pynvml.nvmlSystemGetDriverVersion()
        uuid = _text(pynvml.nvmlDeviceGetUUID(handle))
        return LocalDevice("cuda", _text(name), _text(driver), int(memory.total), int(memory.free), uuid=uuid)
    finally:
        pynvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    # NVML bindings before 12 gave bytes.
    return value.decode() if isinstance(value, bytes) else value
