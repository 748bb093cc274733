"""Faults of one call to a server, injected into the drivers below our adapters.

The servers are real, and so is every response that is not lost. A call is identified by its text on the wire:

    NATS      "<connection> <subject>"              gateway-... forge.jobs.0198....0.requested
    Postgres  "<application> <statement>"           dreamforge-projector UPDATE checkpoints SET ...
    S3        "<method> <path>"                     PUT /forge-artifacts/images/ab/ab....png
"""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from io import BytesIO
from typing import Any

import nats.errors
import psycopg
import pytest
import urllib3
from urllib3.exceptions import ReadTimeoutError

from dreamforge.runtime.log import bus
from dreamforge.runtime.log.fast_client import FastClient

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate</Message></Error>"
ANSWER_SECONDS = 10.0
# The connection of the test itself, as user admin.
ADMINISTRATOR = "test"


class FaultCase(StrEnum):
    """What happens to a call."""

    #: The server refuses, or the connection breaks: nothing was done, and the caller knows at once.
    ERROR = "error"
    #: Nothing was done, and the caller gets no response.
    TIMEOUT = "time-out"
    #: It was done, and the caller gets no response.
    DONE = "done-but-timed-out"


@dataclass(slots=True)
class Fault:
    """Affects `times` of the calls that match, after the first `skip`. `hits` counts them."""

    case: FaultCase
    call: re.Pattern[str]
    times: int = 1
    skip: int = 0
    hits: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def case_for(self, call: str) -> FaultCase | None:
        """The fault of a call; None for none."""
        with self._lock:  # S3 is called from threads
            if self.hits >= self.times or self.call.search(call) is None:
                return None
            if self.skip:
                self.skip -= 1
                return None
            self.hits += 1
        return self.case


@dataclass(slots=True)
class FaultInjector:
    """The active fault, and all NATS connections."""

    fault: Fault | None = None
    #: Publishes and writes of objects that timed out: a test can deliver them long after the caller gave up.
    delayed: "list[Callable[[], Awaitable[object]]]" = field(default_factory=list)
    connections: "list[FastClient]" = field(default_factory=list)

    @contextmanager
    def inject(self, case: FaultCase, call: str, times: int = 1, skip: int = 0) -> Iterator[Fault]:
        """Inject a fault while the block runs."""
        self.fault = Fault(case, re.compile(call, re.DOTALL), times, skip)
        self.delayed.clear()
        try:
            yield self.fault
        finally:
            self.fault = None

    def case_for(self, call: str) -> FaultCase | None:
        """The fault of a call."""
        return self.fault.case_for(call) if self.fault else None

    def administrator(self) -> FastClient:
        """A connection that may publish to the inbox of every service: a service itself may not."""
        return next(each for each in self.connections if each.options["name"] == ADMINISTRATOR)

    def disconnect(self, name: str) -> None:
        """Break the connection of a service as a network failure does: it reconnects, followers start again."""
        for client in self.connections:
            if client.is_connected and str(client.options["name"]).startswith(name):
                client._transport.close()  # type: ignore[union-attr]


@asynccontextmanager
async def _discarded_reply(client: FastClient) -> AsyncIterator[str]:
    """An inbox of our own: a response that arrives here never reaches the caller, and the work is done by then."""
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    try:
        yield inbox
        await subscription.next_msg(ANSWER_SECONDS)
    finally:
        await subscription.unsubscribe()


def _patch_nats(patch: pytest.MonkeyPatch, faults: FaultInjector) -> None:
    """Everything goes through `publish`: requests, JetStream's publishes, parts of a batch."""

    class Client(FastClient):
        def __init__(self) -> None:
            super().__init__()
            faults.connections.append(self)

        async def publish(
            self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
        ) -> None:
            case = faults.case_for(f"{self.options.get('name')} {subject}")
            if case is None:
                await super().publish(subject, payload, reply, headers)
            elif reply:
                await self._fail(case, subject, payload, reply, headers)
            else:  # without a reply: the call fails, or is lost, or is sent and fails
                if case is FaultCase.DONE:
                    await super().publish(subject, payload, reply, headers)
                if case is not FaultCase.TIMEOUT:
                    raise nats.errors.OutboundBufferLimitError

        async def _fail(
            self, case: FaultCase, subject: str, payload: bytes, reply: str, headers: dict[str, str] | None
        ) -> None:
            if case is FaultCase.TIMEOUT:
                faults.delayed.append(partial(super().publish, subject, payload, reply, headers))
            if case is FaultCase.ERROR:  # as the server answers where nothing listens
                await faults.administrator().publish(reply, headers={"Status": "503"})
                return
            if case is FaultCase.DONE:
                async with _discarded_reply(self) as inbox:
                    await super().publish(subject, payload, inbox, headers)
            raise nats.errors.TimeoutError

    patch.setattr(bus, "FastClient", Client)


def _patch_postgres(patch: pytest.MonkeyPatch, faults: FaultInjector) -> None:
    execute, executemany = psycopg.AsyncCursor.execute, psycopg.AsyncCursor.executemany
    leave = psycopg.AsyncTransaction.__aexit__

    def case_of(connection: psycopg.AsyncConnection[Any], statement: Any) -> FaultCase | None:
        text = statement.decode() if isinstance(statement, bytes) else str(statement)
        return faults.case_for(f"{connection.info.parameter_status('application_name')} {text}")

    def failure_of(case: FaultCase, connection: psycopg.AsyncConnection[Any]) -> psycopg.OperationalError:
        if case is FaultCase.TIMEOUT:
            return psycopg.errors.QueryCanceled("canceling statement due to statement timeout")
        connection.pgconn.finish()
        return psycopg.OperationalError("server closed the connection unexpectedly")

    def faulty(call: Any) -> Any:  # Any: the driver's overloads
        async def run(self: psycopg.AsyncCursor[Any], query: Any, *args: Any, **options: Any) -> Any:
            case = case_of(self.connection, query)
            if case is None:
                return await call(self, query, *args, **options)
            if case is FaultCase.DONE:
                await call(self, query, *args, **options)
            raise failure_of(case, self.connection)

        return run

    async def commit(self: psycopg.AsyncTransaction, kind: Any, error: Any, trace: Any) -> bool:
        case = case_of(self.connection, "COMMIT") if kind is None else None
        if case is None:
            return bool(await leave(self, kind, error, trace))
        if case is FaultCase.DONE:
            await leave(self, None, None, None)
        failure = failure_of(case, self.connection)
        if case is not FaultCase.DONE:
            await leave(self, type(failure), failure, None)
        raise failure

    patch.setattr(psycopg.AsyncCursor, "execute", faulty(execute))
    patch.setattr(psycopg.AsyncCursor, "executemany", faulty(executemany))
    patch.setattr(psycopg.AsyncTransaction, "__aexit__", commit)


def _patch_s3(patch: pytest.MonkeyPatch, faults: FaultInjector) -> None:
    class Pool(urllib3.PoolManager):
        def urlopen(self, method: str, url: str, redirect: bool = True, **options: Any) -> Any:  # type: ignore[override]
            case = faults.case_for(f"{method} {urllib3.util.parse_url(url).path}")
            if case is None:
                return super().urlopen(method, url, redirect, **options)
            if case is FaultCase.ERROR:
                body = b"" if method == "HEAD" else SLOW_DOWN
                headers = {"content-type": "application/xml"}
                return urllib3.HTTPResponse(BytesIO(body), headers, status=503, preload_content=False)
            if case is FaultCase.DONE:
                super().urlopen(method, url, redirect, **options).drain_conn()
            else:
                faults.delayed.append(partial(asyncio.to_thread, super().urlopen, method, url, redirect, **options))
            pool = self.connection_from_url(url)
            raise ReadTimeoutError(pool, url, "Read timed out.")

    patch.setattr(urllib3, "PoolManager", Pool)


@contextmanager
def fault_injector() -> Iterator[FaultInjector]:
    """Drivers that fail on demand, for everything that connects while the block runs."""
    faults = FaultInjector()
    with pytest.MonkeyPatch.context() as patch:
        _patch_nats(patch, faults)
        _patch_postgres(patch, faults)
        _patch_s3(patch, faults)
        yield faults
