"""Asks the driver how a card is: XID errors as they come, uncorrected memory errors, and what slows it down now."""

from collections.abc import Callable, Iterator
from ctypes import c_void_p
from typing import TypeVar

import pynvml

from dreamforge.contracts.fleet import DeviceHealth
from dreamforge.gpu_runner.machine.device_health import (
    DeviceEvent,
    DeviceLost,
    Throttled,
    UncorrectedErrors,
    XidError,
    health,
)

T = TypeVar("T")
#: What slows a card down below what it was set to. A power limit alone is how cards run under load.
SLOWDOWNS = {
    pynvml.nvmlClocksThrottleReasonHwSlowdown: "hardware slowdown",
    pynvml.nvmlClocksThrottleReasonSwThermalSlowdown: "heat (software limit)",
    pynvml.nvmlClocksThrottleReasonHwThermalSlowdown: "heat (hardware limit)",
    pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown: "power brake",
}
LOST = (pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED)
#: What a card or a driver does not have, or does not say to us.
UNSUPPORTED = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
)


class DeviceWatch:
    """One card, from the first `poll` on: an XID error of before is not seen, one after it stays."""

    def __init__(self, gpu_index: int) -> None:
        self._index = gpu_index
        self._handle: object = None
        self._events: c_void_p | None = None
        self._errors_before = 0
        self._seen: dict[DeviceEvent, None] = {}

    def poll(self) -> DeviceHealth:
        """How the card is. May block for some milliseconds; not from two threads at a time."""
        now: tuple[DeviceEvent, ...] = ()
        try:
            if self._handle is None:
                self._open()
            self._seen |= dict.fromkeys(self._xid_errors())
            now = (*self._uncorrected(), *self._slowdowns())
        except pynvml.NVMLError as error:
            if error.value in LOST:
                self._seen[DeviceLost(str(error))] = None
        return health((*self._seen, *now))

    def _open(self) -> None:
        pynvml.nvmlInit()  # kept: an event set ends with it
        self._handle = pynvml.nvmlDeviceGetHandleByIndex(self._index)
        self._events = _if_supported(self._registered)
        self._errors_before = self._uncorrected_total() or 0

    def _registered(self) -> c_void_p:
        events: c_void_p = pynvml.nvmlEventSetCreate()
        pynvml.nvmlDeviceRegisterEvents(self._handle, pynvml.nvmlEventTypeXidCriticalError, events)
        return events

    def _xid_errors(self) -> Iterator[XidError]:
        while self._events is not None:
            try:
                event = pynvml.nvmlEventSetWait_v2(self._events, 0)
            except pynvml.NVMLError as error:
                if error.value == pynvml.NVML_ERROR_TIMEOUT:
                    return
                raise
            yield XidError(int(event.eventData))

    def _uncorrected(self) -> Iterator[UncorrectedErrors]:
        if count := (self._uncorrected_total() or 0) - self._errors_before:
            yield UncorrectedErrors(count)

    def _uncorrected_total(self) -> int | None:
        kind, since_boot = pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC
        return _if_supported(lambda: int(pynvml.nvmlDeviceGetTotalEccErrors(self._handle, kind, since_boot)))

    def _slowdowns(self) -> Iterator[Throttled]:
        # By its older name, which drivers of today have too.
        bits = _if_supported(lambda: int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle))) or 0
        if reasons := tuple(name for bit, name in SLOWDOWNS.items() if bits & bit):
            yield Throttled(reasons)


def _if_supported(call: Callable[[], T]) -> T | None:
    """What a call gives; None where the card or the driver cannot say. Errors: other ones of NVML."""
    try:
        return call()
    except pynvml.NVMLError as error:
        if error.value in UNSUPPORTED:
            return None
        raise
