"""The graphics card, its driver, and whether the installed torch can use them. Imports no torch: that takes seconds."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dreamforge.cli.doctor.findings import Finding, fault, note, ok, warning
from dreamforge.cli.setup_machine import TORCH_VERSION, has_nvidia_driver, installed_version
from dreamforge.contracts.readable_sizes import readable_size

DEVICE_FILES = Path("/dev")
REMEDY_TORCH = "run `task setup`, which installs the build that fits this machine"


@dataclass(frozen=True, slots=True)
class Card:
    """One card as NVML names it."""

    name: str
    total_bytes: int
    driver: str


def check_gpu() -> Iterator[Finding]:
    """What there is, without a runner: drivers may be fine while none is started."""
    torch = installed_version("torch")
    has_driver = has_nvidia_driver()
    cards, reason = found_cards()
    yield judge_torch(torch, has_driver=has_driver)
    yield from judge_cards(cards, reason, has_driver=has_driver)
    if has_driver:
        yield from judge_device_files(unreadable_device_files())


def judge_torch(version: str | None, *, has_driver: bool) -> Finding:
    """Whether renders can run here, and on the card if there is one."""
    if version is None:
        return note("gpu", "torch is not installed: this machine renders nothing", REMEDY_TORCH)
    if version.split("+")[0] != TORCH_VERSION:
        return warning("gpu", f"torch {version} is installed, and {TORCH_VERSION} is what was tested", REMEDY_TORCH)
    if has_driver and version.endswith("+cpu"):
        return fault("gpu", f"torch {version} cannot use the card of this machine", REMEDY_TORCH)
    return ok("gpu", f"torch {version}")


def judge_cards(cards: tuple[Card, ...], reason: str, *, has_driver: bool) -> Iterator[Finding]:
    """Whether the driver answers."""
    for card in cards:
        yield ok("gpu", f"{card.name}, {readable_size(card.total_bytes)}, driver {card.driver}")
    if cards:
        return
    if has_driver:
        remedy = "see whether `nvidia-smi` answers; after an update of the driver the machine has to be restarted"
        yield fault("gpu", f"the NVIDIA driver does not answer ({reason})", remedy)
    else:
        yield note("gpu", "no NVIDIA card: images are rendered on the CPU")


def judge_device_files(unreadable: tuple[str, ...]) -> Iterator[Finding]:
    """Whether this user may use the card."""
    if unreadable:
        fact = f"this user may not open {', '.join(unreadable)}"
        yield fault("gpu", fact, "add it to the group that owns them (`ls -l /dev/nvidia*`), often video or render")


def found_cards() -> tuple[tuple[Card, ...], str]:
    """The cards, or none and why."""
    try:
        import pynvml
    except ModuleNotFoundError:
        return (), "nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return (), str(error)
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        driver = str(pynvml.nvmlSystemGetDriverVersion())
        return tuple(_card(handle, driver) for handle in handles), "it knows of no card"
    except pynvml.NVMLError as error:
        return (), str(error)
    finally:
        pynvml.nvmlShutdown()


def _card(handle: object, driver: str) -> Card:
    import pynvml

    memory = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    return Card(str(pynvml.nvmlDeviceGetName(handle)), int(memory.total), driver)


def unreadable_device_files() -> tuple[str, ...]:
    """Device files of the driver that this user may not open."""
    files = sorted(path for path in DEVICE_FILES.glob("nvidia*") if path.is_char_device())
    return tuple(str(path) for path in files if not os.access(path, os.R_OK | os.W_OK))
