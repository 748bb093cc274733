"""One active process of a service, decided by the server: a KV key with a time to live, renewed by its holder.

It saves work and conflicts; what keeps jobs safe is the log's version check. So this simple way is enough: every
quarter of a second the holder renews its key, and the other processes read whether it is free.
"""

import asyncio
from collections.abc import Callable

from loguru import logger

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.leader_lease import LEASE_HEADERS, LeaderLease, holder_of
from dreamforge.contracts.log.streams import LEADER_LEASE_SECONDS, LEADER_RENEW_SECONDS, LEADERS_BUCKET
from dreamforge.contracts.log.subjects import key_of
from dreamforge.runtime import clock
from dreamforge.runtime.log import leader_get
from dreamforge.runtime.log.bus import ApiError, Bus, ack
from dreamforge.runtime.log.group_commit import EXPECTED, WRONG_LAST_SEQUENCE

STREAM = f"KV_{LEADERS_BUCKET}"
OPERATION = "KV-Operation"
# One renewal may be in flight, and a read may be answered before that renewal is stored.
DELETE_TRIES = 3


class Leadership:
    """`leads` is true while this process holds the key of `service`; `on_change` is called when that changes."""

    def __init__(self, bus: Bus, service: str, instance_id: str, on_change: Callable[[bool], None]) -> None:
        self._bus = bus
        self._service = service
        self._key = key_of(LEADERS_BUCKET, service)
        self._instance = instance_id
        self._on_change = on_change
        self._revision = 0
        self._until = 0.0
        self._holds = False
        self._warned = ""

    @property
    def leads(self) -> bool:
        """False as soon as the lease may have run out, even while a renewal still waits for its answer."""
        return self._holds and clock.monotonic_seconds() < self._until

    async def run(self) -> None:
        """Try to hold the key until cancelled; then release it, so that another process takes over at once."""
        try:
            while True:
                await self._step()
                await asyncio.sleep(LEADER_RENEW_SECONDS)
        finally:
            await self._release()

    async def _step(self) -> None:
        asked_at = clock.monotonic_seconds()
        try:
            if not self._holds and await self._holder():
                return
            lease = LeaderLease(instance_id=self._instance, at=clock.now())
            self._revision = await self._put(lease.model_dump_json().encode(), LEASE_HEADERS)
        except ApiError as error:
            if error.code not in WRONG_LAST_SEQUENCE:
                self._warn(error)
            self._resign()  # another process has it, or the server lost the key
        except DependencyAway as error:
            if not self.leads:
                self._resign()
            self._warn(error)
        else:
            self._warned = ""
            led = self.leads  # a renewal that came late is a new beginning
            self._holds, self._until = True, asked_at + LEADER_LEASE_SECONDS
            if not led:
                self._on_change(True)

    def _warn(self, error: Exception) -> None:
        """Say it once: the next step is a quarter of a second away."""
        if str(error) != self._warned:
            self._warned = str(error)
            logger.warning("leadership of {}: {}", self._service, error)

    async def _holder(self) -> str | None:
        """The instance that holds the key, None if it is free; remembers the revision of the key.

        A value that is no lease counts as free, and is written over at the revision that was read.
        """
        found = await leader_get.stored_last(self._bus, STREAM, self._key)
        self._revision, headers, data = found or (0, {}, b"")
        holder = holder_of(data, headers, clock.now())
        if data and holder is None:
            self._warn(DependencyAway(dependency="leaders", reason=f"what is under the key {self._key} is no lease"))
        return holder

    async def _put(self, data: bytes, headers: dict[str, str]) -> int:
        answer = ack(await self._bus.ask(self._key, data, headers | {EXPECTED: str(self._revision)}))
        return int(answer["seq"])

    async def _release(self) -> None:
        if self._holds:
            self._resign()
            try:
                await self._delete()
            except (ApiError, DependencyAway) as error:
                logger.warning("leadership of {} was not released, its lease will expire: {}", self._service, error)

    async def _delete(self) -> None:
        """Delete the key; if a renewal without an awaited answer changed its revision, read it and try again."""
        for tries_left in reversed(range(DELETE_TRIES)):
            try:
                await self._put(b"", {OPERATION: "DEL"})
                return
            except ApiError as error:
                if error.code not in WRONG_LAST_SEQUENCE or not tries_left:
                    raise
            if await self._holder() != self._instance:
                return

    def _resign(self) -> None:
        if self._holds:
            self._holds = False
            self._on_change(False)
