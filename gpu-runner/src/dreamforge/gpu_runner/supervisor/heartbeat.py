"""Publishes once a second what this runner is, holds and can still hold; each heartbeat renews its lease."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from loguru import logger

from dreamforge.contracts import fleet
from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.log.streams import RUNNERS_BUCKET
from dreamforge.contracts.log.subjects import key_of
from dreamforge.contracts.measured_times import MeasuredTimes
from dreamforge.contracts.observed_memory import ObservedMemory
from dreamforge.gpu_runner.machine.device import LocalDevice
from dreamforge.gpu_runner.supervisor.admission import RunnerIdentity
from dreamforge.runtime.log.bus import ApiError, Bus, ack

#: Changes closer together than this share one heartbeat: hundreds of short attempts a second need no more.
MIN_INTERVAL_SECONDS = 0.1
#: The same for what the next assignment waits for: a device that renders ten jobs a second would wait for half of them.
URGENT_INTERVAL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class RunnerActivity:
    """What the runner reports besides its identity."""

    renderer: str
    slots: int
    shares: int
    health: fleet.DeviceHealth
    accepting: bool
    resident: dict[str, int]
    active: tuple[fleet.ActiveAttempt, ...]
    times: MeasuredTimes
    ending: tuple[fleet.ActiveAttempt, ...]
    memory: ObservedMemory
    batch_max: int
    batch_bounds: dict[str, int]
    quantisations: dict[str, str]


def budget_bytes(device: LocalDevice, resident: Mapping[str, int], shares: int = 1) -> int:
    """Memory that renders may use: what is free plus what our own models hold, since those can leave for another.

    Of a device that several runners share, no more than our part.
    """
    return min(device.free_bytes + sum(resident.values()), device.total_bytes // shares)


def heartbeat_of(
    identity: RunnerIdentity, device: LocalDevice, activity: RunnerActivity, at: datetime
) -> fleet.Heartbeat:
    """One heartbeat. Pure."""
    return fleet.Heartbeat(
        runner_id=identity.runner_id,
        instance_id=identity.instance_id,
        at=at,
        renderer=activity.renderer,
        device=public_device(device),
        budget_bytes=budget_bytes(device, activity.resident, activity.shares),
        free_bytes=device.free_bytes,
        slots=activity.slots,
        health=activity.health,
        draining=identity.draining or not activity.accepting,
        starting=not (identity.draining or activity.accepting),
        model_ids=tuple(sorted(identity.model_ids)),
        resident_model_ids=tuple(sorted(activity.resident)),
        active=activity.active,
        times=activity.times,
        ending=activity.ending,
        memory=activity.memory,
        batch_max=activity.batch_max,
        batch_bounds=dict(activity.batch_bounds),
        quantisations=activity.quantisations,
    )


def public_device(device: LocalDevice) -> fleet.Device:
    """The device as the fleet sees it."""
    return fleet.Device(
        kind=device.kind,
        name=device.name,
        driver=device.driver,
        total_bytes=device.total_bytes,
        note=device.note,
    )


@dataclass(slots=True)
class HeartbeatPublisher:
    """Publishes every HEARTBEAT_SECONDS, and soon after `notify`, until `stop`."""

    bus: Bus
    runner_id: str
    heartbeat: Callable[[], fleet.Heartbeat]
    #: Asks the device anew; may block, so it runs in a thread.
    refresh: Callable[[], None]
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _urgent: asyncio.Event = field(default_factory=asyncio.Event)
    _left: bool = False

    def notify(self) -> None:
        """Something changed: do not wait for the next second."""
        self._changed.set()

    def notify_at_once(self) -> None:
        """Something changed that others wait for."""
        self._changed.set()
        self._urgent.set()

    async def run(self) -> None:
        """Publish until stopped or cancelled."""
        while True:
            await asyncio.to_thread(self.refresh)
            if self._left:  # a heartbeat now would keep a stopped runner in the fleet for one more lease
                return
            await self.once()
            await asyncio.sleep(URGENT_INTERVAL_SECONDS)
            if not await _set_within(self._urgent, MIN_INTERVAL_SECONDS - URGENT_INTERVAL_SECONDS):
                await _set_within(self._changed, fleet.HEARTBEAT_SECONDS - MIN_INTERVAL_SECONDS)

    async def once(self) -> None:
        """One heartbeat, now; one that does not arrive is followed by the next."""
        self._changed.clear()
        self._urgent.clear()
        try:
            await self._put(self.heartbeat().model_dump_json().encode(), {})
        except (DependencyAway, ApiError) as error:
            logger.warning("the heartbeat did not arrive: {}", error)

    async def stop(self) -> None:
        """Leave the fleet at once instead of by an expired lease; no heartbeat follows."""
        self._left = True
        try:
            await self._put(b"", {"KV-Operation": "PURGE", "Nats-Rollup": "sub"})
        except (DependencyAway, ApiError) as error:
            logger.warning("the lease has to expire, since the fleet could not be left: {}", error)

    async def _put(self, data: bytes, headers: dict[str, str]) -> None:
        subject, lease = key_of(RUNNERS_BUCKET, self.runner_id), {"Nats-TTL": f"{fleet.LEASE_SECONDS}s"}
        ack(await self.bus.ask(subject, data, headers | lease))


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    """Whether an event was set in time; waits for it."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
