"""The connection to NATS: waits until the server is available, refuses an unfit one, logs every change of state."""

import asyncio
import contextlib
import errno
import json
import logging
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from loguru import logger
from nats.aio.msg import Msg
from nats.errors import ConnectionClosedError, MaxPayloadError
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import APIError as JetStreamApiError

from dreamforge.contracts.errors import BrokerUnfit, DependencyAway, EventTooLarge
from dreamforge.contracts.log.permissions import inbox_of
from dreamforge.runtime import clock
from dreamforge.runtime.log.fast_client import FastClient
from dreamforge.runtime.log.names import PLAIN_NAMES, Names
from dreamforge.runtime.log.prefixed_client import PrefixedClient
from dreamforge.runtime.log.seeds import seed_in
from dreamforge.runtime.service.tasks import cancel
from dreamforge.runtime.tls.client_context import client_context

# Atomic batches came with 2.12, schedules with 2.12, per-key TTL with 2.11; 2.14 is what we test against.
MINIMUM_SERVER = (2, 14)
REQUEST_TIMEOUT_SECONDS = 5.0
# A server that is frozen or cut off closes no connection. It is left four to six seconds after its last answer to pings
# (in the client library's own time, after six minutes), for another one of FORGE_NATS_URL or the cluster. Not sooner: a
# busy machine must not look lost.
PING_SECONDS, PINGS_UNANSWERED = 2, 2
BAD_REQUEST = 400
# In the descriptions of errors of 500, which else are of the server: an existing consumer has another configuration.
NOT_CHANGEABLE = "can not be updated"
# A parked message is nearly as large (see projector.parking); it is the server's default.
MINIMUM_PAYLOAD_BYTES = 2**20
# How long closing waits for messages that are no longer processed; none of them exists only there.
DRAIN_SECONDS = 2
NATS_ERRORS = (NatsError, OSError, asyncio.TimeoutError)


class ApiError(Exception):
    """JetStream's own error: `code` is its err_code, `status` of the kind that HTTP has (400: the request is wrong)."""

    def __init__(self, code: int, description: str, status: int = 0) -> None:
        super().__init__(f"{description} ({code})")
        self.code = code
        self.status = status


def refusal(error: ApiError | JetStreamApiError, what: str) -> BrokerUnfit | DependencyAway:
    """What an error of JetStream means for who would try again: BrokerUnfit where the same request can never succeed.

    >>> refusal(ApiError(10012, "ack policy can not be updated", 500), "consumer parking")
    BrokerUnfit(reason='it refuses consumer parking: ack policy can not be updated (10012)')
    """
    status = error.status if isinstance(error, ApiError) else error.code
    if status == BAD_REQUEST or NOT_CHANGEABLE in str(error):
        return BrokerUnfit(reason=f"it refuses {what}: {error}")
    return DependencyAway(dependency="nats", reason=str(error))


class Silent(Protocol):
    """What follows a stream over a connection."""

    stream: str

    @property
    def silent_seconds(self) -> float:
        """For how long nothing was heard of the stream."""


@dataclass(frozen=True, slots=True)
class Bus:
    """One connection. `request` calls JetStream's API; `nc` and `js` are there for the rest.

    Requests on a connection that is lost fail at once; hooks in `on_reconnect` are called when there is a new one.
    """

    nc: FastClient
    js: JetStreamContext = field(repr=False)
    names: Names = PLAIN_NAMES
    user: str = ""
    on_reconnect: set[Callable[[], None]] = field(default_factory=set, repr=False)
    beside: "set[asyncio.Task[None]]" = field(default_factory=set, repr=False)
    followers: "set[Silent]" = field(default_factory=set, repr=False)

    def run_beside(self, work: Coroutine[Any, Any, None], name: str) -> None:  # Any: as asyncio declares
        """Run something until the connection is closed."""
        self.beside.add(asyncio.create_task(work, name=name))

    async def request(self, subject: str, payload: object) -> dict[str, Any]:  # Any: JSON
        """One JetStream API call. Errors: ApiError(code), DependencyAway when NATS does not answer."""
        answer = await self.ask(subject, json.dumps(payload).encode() if payload is not None else b"")
        return self.names.answer_here(ack(answer))

    async def ask(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> Msg:
        """Request and reply. Errors: DependencyAway, EventTooLarge."""
        try:
            # Our own time-out, because the client's is wait_for, which on Python 3.11 swallows a cancellation that
            # arrives together with the answer.
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                return await self.nc.request(subject, data, timeout=None, headers=headers)  # type: ignore[arg-type]
        except MaxPayloadError as error:
            raise EventTooLarge(subject=subject, size_bytes=len(data)) from error
        except NATS_ERRORS as error:
            raise DependencyAway(dependency="nats", reason=str(error) or type(error).__name__) from error

    async def publish(self, subject: str, data: bytes, headers: dict[str, str] | None = None) -> None:
        """Core publish: no ack.

        Errors: DependencyAway when the connection is closed or its buffer full, EventTooLarge.
        """
        try:
            await self.nc.publish(subject, data, headers=headers)
        except MaxPayloadError as error:
            raise EventTooLarge(subject=subject, size_bytes=len(data)) from error
        except NATS_ERRORS as error:
            raise DependencyAway(dependency="nats", reason=str(error) or type(error).__name__) from error

    @property
    def connected(self) -> bool:
        """True while the server is reachable."""
        return bool(self.nc.is_connected)

    async def check(self) -> None:
        """Readiness. Errors: DependencyAway while the server is not reachable."""
        if not self.connected:
            raise DependencyAway(dependency="nats", reason="not connected")

    async def close(self) -> None:
        """Flush what was published and close; on a broken connection, only close."""
        await cancel(*self.beside)
        if self.nc.is_closed:
            return
        try:
            await self.nc.drain() if self.nc.is_connected else await self.nc.close()
        except (*NATS_ERRORS, RuntimeError):  # RuntimeError: uvloop, on writing to a closed transport
            with contextlib.suppress(*NATS_ERRORS, RuntimeError):
                await self.nc.close()


def ack(message: Msg) -> dict[str, Any]:  # Any: JSON
    """JetStream's answer as JSON. Errors: ApiError(code)."""
    answer: dict[str, Any] = json.loads(message.data or b"{}")
    if error := answer.get("error"):
        description = str(error.get("description", "unknown error"))
        raise ApiError(int(error.get("err_code", 0)), description, int(error.get("code", 0)))
    return answer


async def connect(
    url: str,
    name: str,
    prefix: str = "",
    *,
    user: str = "",
    seed_file: Path | None = None,
    ca_file: Path | None = None,
    wait: bool = True,
) -> Bus:
    """Connect, waiting for as long as NATS is unavailable. Errors: BrokerUnfit when the server is too old or its
    messages are too small, InvalidSettings when the seed or the authority of its certificate cannot be read; without
    `wait`, OSError once nothing listens at any address of the URL.

    With a prefix all names on the server begin with it; this process uses the plain ones. `user` is the one whose
    permissions suffice (contracts.log.permissions): inbox and consumers have its names; "" for who may do everything.
    """
    names = Names(prefix)
    context = client_context(ca_file, "FORGE_NATS_CA_FILE")
    if context is not None:
        logging.getLogger("asyncio").addFilter(_is_no_false_alarm)
    nc = PrefixedClient(names) if prefix else FastClient()
    servers = url.split(",")
    connection_log = _ConnectionLog(nc, None if wait else len(servers))
    await nc.connect(
        servers,
        name=name,
        inbox_prefix=inbox_of(user),
        nkeys_seed_str=seed_in(seed_file),
        tls=context,
        connect_timeout=2,
        drain_timeout=DRAIN_SECONDS,
        ping_interval=PING_SECONDS,
        max_outstanding_pings=PINGS_UNANSWERED,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.1,  # type: ignore[arg-type]  # a sleep; declared as int
        error_cb=connection_log.error,
        disconnected_cb=connection_log.disconnected,
        reconnected_cb=connection_log.reconnected,
    )
    connection_log.refusals_left = None
    version = nc.connected_server_version
    if (version.major, version.minor) < MINIMUM_SERVER:
        await nc.close()
        needed = ".".join(map(str, MINIMUM_SERVER))
        raise BrokerUnfit(reason=f"it is version {version.major}.{version.minor}, and {needed} or newer is needed")
    if nc.max_payload < MINIMUM_PAYLOAD_BYTES:
        await nc.close()
        raise BrokerUnfit(
            reason=f"it takes messages of {nc.max_payload} bytes, and {MINIMUM_PAYLOAD_BYTES} are needed:"
            " set `max_payload: 1MB` in its configuration"
        )
    return Bus(nc, nc.jetstream(timeout=REQUEST_TIMEOUT_SECONDS), names, user, connection_log.on_reconnect)


def _is_no_false_alarm(record: logging.LogRecord) -> bool:
    """Whether a warning of asyncio means anything: nats-py does not tell its reader that a connection became TLS, so
    each end of one is warned of (2.16.0, `TcpTransport.connect_tls`)."""
    return "eof_received() has no effect when using ssl" not in record.getMessage()


def is_refused(error: Exception) -> bool:
    """Whether nothing listens there. A name with several addresses has one error of them all (asyncio, as of 3.13).

    >>> several = "Multiple exceptions: [Errno {0}] Connect call failed ('::1', 1), [Errno {0}] Connect call failed"
    >>> is_refused(OSError(several.format(errno.ECONNREFUSED))), is_refused(OSError(several.format(errno.ENETDOWN)))
    (True, False)
    """
    numbers = {int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))}
    return isinstance(error, OSError) and numbers == {errno.ECONNREFUSED}


class _ConnectionLog:
    """Logs what happens to the connection, but the same error only every few seconds.

    `refusals_left`: after so many the error is raised, which ends `connect` of the client; None: none ends it.
    """

    REPEAT_SECONDS = 5.0

    def __init__(self, nc: FastClient, refusals_left: int | None) -> None:
        self.on_reconnect: set[Callable[[], None]] = set()
        self.refusals_left = refusals_left
        self._nc = nc
        self._last: tuple[str, float] = ("", 0.0)

    async def error(self, error: Exception) -> None:
        if self.refusals_left is not None and is_refused(error):
            self.refusals_left -= 1
            if self.refusals_left <= 0:  # the client calls this twice for an error that is raised here
                raise error
        text = str(error) or type(error).__name__
        last_text, at = self._last
        if text != last_text or clock.monotonic_seconds() - at > self.REPEAT_SECONDS:
            self._last = (text, clock.monotonic_seconds())
            logger.warning("NATS: {} (trying again)", text)

    async def disconnected(self) -> None:
        if not self._nc.is_closed:  # the client calls this also when we close it
            logger.warning("NATS: connection lost")
        self._nc.give_up_requests(ConnectionClosedError())

    async def reconnected(self) -> None:
        logger.info("NATS: connected again")
        for hook in tuple(self.on_reconnect):
            hook()
