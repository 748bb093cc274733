"""From what the driver reports of a card to whether it may be used. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from dreamforge.contracts.fleet import DeviceHealth
from dreamforge.gpu_runner.machine.xid_errors import DEGRADING, FENCING


@dataclass(frozen=True, slots=True)
class XidError:
    """An error that the driver wrote down, by NVIDIA's number."""

    code: int


@dataclass(frozen=True, slots=True)
class UncorrectedErrors:
    """Memory errors that ECC could not correct, since the runner started."""

    count: int


@dataclass(frozen=True, slots=True)
class Throttled:
    """The card runs more slowly now, for these reasons."""

    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeviceLost:
    """The driver cannot reach the card."""

    message: str


DeviceEvent = XidError | UncorrectedErrors | Throttled | DeviceLost


def health(events: Iterable[DeviceEvent]) -> DeviceHealth:
    """What follows of all that was seen: the worst counts, with every reason of that kind.

    >>> health([XidError(13)]), health([Throttled(("heat",)), XidError(79)]).reason
    (DeviceHealth(state='healthy', reason='', throttled=False), 'XID 79: it has fallen off the bus')
    """
    events = tuple(events)
    throttled = any(isinstance(event, Throttled) for event in events)
    if fencing := [reason for event in events if (reason := _why_fenced(event))]:
        return DeviceHealth(state="fenced", reason="; ".join(fencing), throttled=throttled)
    if degrading := [reason for event in events if (reason := _why_degraded(event))]:
        return DeviceHealth(state="degraded", reason="; ".join(degrading), throttled=throttled)
    return DeviceHealth()


def _why_fenced(event: DeviceEvent) -> str:
    match event:
        case DeviceLost(message):
            return f"the driver has lost it ({message})"
        case XidError(code) if code in FENCING:
            return f"XID {code}: {FENCING[code]}"
    return ""


def _why_degraded(event: DeviceEvent) -> str:
    match event:
        case XidError(code) if code in DEGRADING:
            return f"XID {code}: {DEGRADING[code]}"
        case UncorrectedErrors(count) if count:
            return f"{count} uncorrected memory errors"
        case Throttled(reasons):
            return f"throttled: {', '.join(reasons)}"
    return ""
