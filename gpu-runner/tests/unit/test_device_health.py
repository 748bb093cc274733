"""What a driver reports of a card decides whether it may be used. NVML is the border: this machine may have none."""

from collections import deque
from collections.abc import Iterator
from ctypes import c_void_p

import pynvml
import pytest

from dreamforge.contracts.fleet import DeviceHealth
from dreamforge.gpu_runner.machine.device_health import (
    DeviceEvent,
    DeviceLost,
    Throttled,
    UncorrectedErrors,
    XidError,
    health,
)
from dreamforge.gpu_runner.machine.device_watch import DeviceWatch
from dreamforge.gpu_runner.supervisor.run_times import RunTimes


class Driver:
    """NVML as a card of a data center answers it. `broken`: an error code that every question gets."""

    def __init__(self) -> None:
        self.xids: deque[int] = deque()
        self.uncorrected, self.slowdowns, self.broken = 7, 0, 0
        self.unsupported: set[str] = set()

    def asked(self, name: str) -> None:
        if self.broken or name in self.unsupported:
            raise pynvml.NVMLError(self.broken or pynvml.NVML_ERROR_NOT_SUPPORTED)

    def wait(self, _events: c_void_p, timeout_ms: int) -> pynvml.c_nvmlEventData_t:
        self.asked("events")
        assert timeout_ms == 0, "a heartbeat waits for no event"
        if not self.xids:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT)
        return pynvml.c_nvmlEventData_t(None, pynvml.nvmlEventTypeXidCriticalError, self.xids.popleft(), 0, 0)

    def register(self, _handle: object, kinds: int, _events: c_void_p) -> None:
        self.asked("events")
        assert kinds == pynvml.nvmlEventTypeXidCriticalError

    def ecc(self, _handle: object, kind: int, counter: int) -> int:
        self.asked("ecc")
        assert (kind, counter) == (pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC)
        return self.uncorrected

    def reasons(self, _handle: object) -> int:
        self.asked("reasons")
        return self.slowdowns


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    made = Driver()
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlEventSetCreate", c_void_p)
    monkeypatch.setattr(pynvml, "nvmlDeviceRegisterEvents", made.register)
    monkeypatch.setattr(pynvml, "nvmlEventSetWait_v2", made.wait)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEccErrors", made.ecc)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCurrentClocksThrottleReasons", made.reasons)
    return made


@pytest.mark.parametrize(
    ("events", "state", "reason"),
    [
        ((), "healthy", ""),
        ((XidError(13), XidError(31), XidError(43)), "healthy", ""),
        (
            (XidError(63), UncorrectedErrors(2)),
            "degraded",
            "XID 63: a bad row of its memory is replaced at the next reset; 2",
        ),
        ((Throttled(("heat",)),), "degraded", "throttled: heat"),
        ((Throttled(("heat",)), XidError(63), XidError(79)), "fenced", "XID 79: it has fallen off the bus"),
        ((DeviceLost("GPU is lost"),), "fenced", "the driver has lost it (GPU is lost)"),
    ],
)
def test_the_worst_that_was_seen_decides(events: tuple[DeviceEvent, ...], state: str, reason: str) -> None:
    found = health(events)
    assert found.state == state
    assert found.reason.startswith(reason)
    assert health(reversed(events)).state == state, "in any order"


def test_an_xid_error_that_was_seen_stays(driver: Driver) -> None:
    watch = DeviceWatch(0)
    assert watch.poll() == DeviceHealth(), "errors that were counted before are of before"
    driver.xids += (13, 48)
    assert watch.poll().state == "fenced"
    assert watch.poll().reason == "XID 48: double-bit memory error"


def test_slowdowns_are_told_while_they_last(driver: Driver) -> None:
    watch = DeviceWatch(0)
    driver.slowdowns = pynvml.nvmlClocksThrottleReasonSwPowerCap | pynvml.nvmlClocksThrottleReasonGpuIdle
    assert watch.poll() == DeviceHealth(), "how cards run under load, and without"
    driver.slowdowns = pynvml.nvmlClocksThrottleReasonHwThermalSlowdown
    found = watch.poll()
    assert (found.state, found.throttled, found.reason) == ("degraded", True, "throttled: heat (hardware limit)")
    driver.slowdowns = 0
    assert watch.poll() == DeviceHealth()


def test_uncorrected_errors_count_from_the_start(driver: Driver) -> None:
    watch = DeviceWatch(0)
    watch.poll()
    driver.uncorrected += 1
    assert watch.poll().reason == "1 uncorrected memory errors"


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED])
def test_a_card_that_the_driver_lost_is_fenced_and_stays_so(driver: Driver, code: int) -> None:
    watch = DeviceWatch(0)
    watch.poll()
    driver.broken = code
    assert watch.poll().state == "fenced"
    driver.broken = 0
    assert watch.poll().state == "fenced"


def test_a_card_that_says_less_is_healthy_as_far_as_it_says(driver: Driver) -> None:
    driver.unsupported = {"events", "ecc", "reasons"}
    assert DeviceWatch(0).poll() == DeviceHealth()
    driver.broken = pynvml.NVML_ERROR_UNKNOWN
    assert DeviceWatch(0).poll() == DeviceHealth()


def test_without_a_driver_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert DeviceWatch(0).poll() == DeviceHealth()


def test_what_a_slow_card_takes_is_not_remembered() -> None:
    times = RunTimes()
    times.stepped("m 64x64", 1, 0.5)
    times.counts = False
    times.stepped("m 64x64", 1, 50.0)
    times.finished("m 64x64", 50.0, 5.0)
    assert times.measured.steps == {"m 64x64": {1: 0.5}}
    assert times.measured.beside == {}


@pytest.mark.gpu
def test_a_real_card_is_watched(torch_gpu: None) -> None:
    watch = DeviceWatch(0)
    assert watch.poll().state != "fenced"
    assert watch._handle is not None
