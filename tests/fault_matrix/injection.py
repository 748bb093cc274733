"""What can go wrong with one call to a server, done to the drivers below our adapters.

The servers are real and so is every answer that is not lost. A call is known by what it says on the wire:

    NATS      "<connection> <subject>"              gateway-... forge.jobs.0198....0.requested
    Postgres  "<application> <statement>"           dreamforge-projector UPDATE checkpoints SET ...
    S3        "<method> <path>"                     PUT /forge-artifacts/images/ab/ab....png
"""

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
from dreamforge.runtime.log.headers import FastClient

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate</Message></Error>"
ANSWER_SECONDS = 10.0


class Case(StrEnum):
    """What happens to a call."""

    #: The server refuses, or the connection breaks: nothing was done, and the caller knows at once.
    ERROR = "error"
    #: Nothing was done, and nobody says so.
    TIMEOUT = "time-out"
    #: It was done, and nobody says so.
    DONE = "done-but-timed-out"


@dataclass(slots=True)
class Fault:
    """Strikes the first `times` calls that match. `met` counts them."""

    case: Case
    call: re.Pattern[str]
    times: int = 1
    met: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def strikes(self, call: str) -> Case | None:
        """What is to happen to a call; None for nothing."""
        with self._lock:  # S3 is spoken to from threads
            if self.met >= self.times or self.call.search(call) is None:
                return None
            self.met += 1
        return self.case


@dataclass(slots=True)
class Weather:
    """The fault of the moment, and the NATS connections that there are."""

    fault: Fault | None = None
    #: Publishes that timed out, still on their way somewhere: they may be let arrive long after nobody waits for them.
    late: "list[Callable[[], Awaitable[None]]]" = field(default_factory=list)
    connections: "list[FastClient]" = field(default_factory=list)

    @contextmanager
    def bad(self, case: Case, call: str, times: int = 1) -> Iterator[Fault]:
        """Let a fault strike while the block runs."""
        self.fault = Fault(case, re.compile(call, re.DOTALL), times)
        self.late.clear()
        try:
            yield self.fault
        finally:
            self.fault = None

    def strikes(self, call: str) -> Case | None:
        """What is to happen to a call."""
        return self.fault.strikes(call) if self.fault else None

    def cut(self, name: str) -> None:
        """Break the connection of a service as a lost network does: it connects again, followers begin anew."""
        for client in self.connections:
            if client.is_connected and str(client.options["name"]).startswith(name):
                client._transport.close()  # type: ignore[union-attr]


@asynccontextmanager
async def _heard_by_nobody(client: FastClient) -> AsyncIterator[str]:
    """An inbox of our own: an answer that arrives here never reaches whoever asked, and the work is done by then."""
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    try:
        yield inbox
        await subscription.next_msg(ANSWER_SECONDS)
    finally:
        await subscription.unsubscribe()


def _break_nats(patch: pytest.MonkeyPatch, weather: Weather) -> None:
    """Everything goes through `publish`: requests, JetStream's publishes, parts of a batch."""

    class Client(FastClient):
        def __init__(self) -> None:
            super().__init__()
            weather.connections.append(self)

        async def publish(
            self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
        ) -> None:
            case = weather.strikes(f"{self.options.get('name')} {subject}")
            if case is None:
                await super().publish(subject, payload, reply, headers)
            elif reply:
                await self._struck(case, subject, payload, reply, headers)
            else:  # nobody waits for an answer: the call fails, or is lost, or went out and fails
                if case is Case.DONE:
                    await super().publish(subject, payload, reply, headers)
                if case is not Case.TIMEOUT:
                    raise nats.errors.OutboundBufferLimitError

        async def _struck(
            self, case: Case, subject: str, payload: bytes, reply: str, headers: dict[str, str] | None
        ) -> None:
            if case is Case.TIMEOUT:
                weather.late.append(partial(super().publish, subject, payload, reply, headers))
            if case is Case.ERROR:  # the server itself answers "503 no responders"
                await super().publish("nobody.listens.here", b"", reply)
                return
            if case is Case.DONE:
                async with _heard_by_nobody(self) as inbox:
                    await super().publish(subject, payload, inbox, headers)
            raise nats.errors.TimeoutError

    patch.setattr(bus, "FastClient", Client)


def _break_postgres(patch: pytest.MonkeyPatch, weather: Weather) -> None:
    execute, executemany = psycopg.AsyncCursor.execute, psycopg.AsyncCursor.executemany
    leave = psycopg.AsyncTransaction.__aexit__

    def said(connection: psycopg.AsyncConnection[Any], statement: Any) -> Case | None:
        text = statement.decode() if isinstance(statement, bytes) else str(statement)
        return weather.strikes(f"{connection.info.parameter_status('application_name')} {text}")

    def struck(case: Case, connection: psycopg.AsyncConnection[Any]) -> psycopg.OperationalError:
        if case is Case.TIMEOUT:
            return psycopg.errors.QueryCanceled("canceling statement due to statement timeout")
        connection.pgconn.finish()
        return psycopg.OperationalError("server closed the connection unexpectedly")

    def faulty(call: Any) -> Any:  # Any: the driver's overloads
        async def run(self: psycopg.AsyncCursor[Any], query: Any, *args: Any, **options: Any) -> Any:
            case = said(self.connection, query)
            if case is None:
                return await call(self, query, *args, **options)
            if case is Case.DONE:
                await call(self, query, *args, **options)
            raise struck(case, self.connection)

        return run

    async def commit(self: psycopg.AsyncTransaction, kind: Any, error: Any, trace: Any) -> bool:
        case = said(self.connection, "COMMIT") if kind is None else None
        if case is None:
            return bool(await leave(self, kind, error, trace))
        if case is Case.DONE:
            await leave(self, None, None, None)
        failure = struck(case, self.connection)
        if case is not Case.DONE:
            await leave(self, type(failure), failure, None)
        raise failure

    patch.setattr(psycopg.AsyncCursor, "execute", faulty(execute))
    patch.setattr(psycopg.AsyncCursor, "executemany", faulty(executemany))
    patch.setattr(psycopg.AsyncTransaction, "__aexit__", commit)


def _break_s3(patch: pytest.MonkeyPatch, weather: Weather) -> None:
    class Pool(urllib3.PoolManager):
        def urlopen(self, method: str, url: str, redirect: bool = True, **options: Any) -> Any:
            case = weather.strikes(f"{method} {urllib3.util.parse_url(url).path}")
            if case is None:
                return super().urlopen(method, url, redirect, **options)
            if case is Case.ERROR:
                body = b"" if method == "HEAD" else SLOW_DOWN
                headers = {"content-type": "application/xml"}
                return urllib3.HTTPResponse(BytesIO(body), headers, status=503, preload_content=False)
            if case is Case.DONE:
                super().urlopen(method, url, redirect, **options).drain_conn()
            pool = self.connection_from_url(url)
            raise ReadTimeoutError(pool, url, "Read timed out.")

    patch.setattr(urllib3, "PoolManager", Pool)


@contextmanager
def weather_station() -> Iterator[Weather]:
    """Drivers that fail on demand, for everything that connects while the block runs."""
    weather = Weather()
    with pytest.MonkeyPatch.context() as patch:
        _break_nats(patch, weather)
        _break_postgres(patch, weather)
        _break_s3(patch, weather)
        yield weather
