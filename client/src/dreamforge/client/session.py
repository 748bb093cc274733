"""Requests with retries, reads that see this client's writes, event streams that resume. Written once, for both ways.

Everything typed stands on this; programs that want documents as they are sent use it directly, as our command does.
"""

import json
import logging
import math
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import httpx
from httpx_sse import ServerSentEvent

from dreamforge.client.connection import Connection
from dreamforge.client.errors import ClientError, GatewayUnavailable, UnreadableReply, problem_of
from dreamforge.client.machine import Deadline, new_key
from dreamforge.client.retries import Retries
from dreamforge.client.streams import (
    DeadlinePassed,
    StreamEnded,
    StreamInterrupted,
    StreamPosition,
    StreamRefused,
    open_stream,
)
from dreamforge.client.transport import Request, Transport

Json = dict[str, Any]  # Any: JSON as the gateway's OpenAPI document describes it
_LOST_PLACE = frozenset({"sequence_of_other_log", "sequence_not_given"})
_log = logging.getLogger("dreamforge.client")


class NewestWrite:
    """The newest log sequence that this client knows, and of which log: a read names it, to see every write before.

    Threads may share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sequence = 0
        self._log = ""

    def note(self, sequence: int, log: str = "") -> None:
        """A write was answered, or an event was received."""
        with self._lock:
            self._sequence = max(self._sequence, sequence)
            self._log = log or self._log

    def forget(self) -> None:
        """The gateway has another log now, in which the sequence means nothing."""
        with self._lock:
            self._sequence, self._log = 0, ""

    def headers(self) -> dict[str, str]:
        """Of a read that must see it."""
        with self._lock:
            headers = {"Forge-Min-Sequence": str(self._sequence)} if self._sequence else {}
            return headers | ({"Forge-Log": self._log} if self._log else {})


class GatewaySession:
    """What one client has of a gateway. `notify` is told of each problem that a retry may solve."""

    def __init__(
        self,
        connection: Connection,
        transport: Transport,
        retries: Retries | None = None,
        notify: Callable[[str], object] = _log.info,
    ) -> None:
        self.connection = connection
        self.transport = transport
        self.retries = retries or Retries()
        self.newest = NewestWrite()
        self._notify = notify

    async def read(self, path: str, **query: str | int | None) -> Json:
        """One document, at least as new as the last write of this client. Errors: as `send`."""
        given = {name: value for name, value in query.items() if value is not None}
        return _json_of(await self.send(Request("GET", path, given, self.newest.headers())))

    async def write(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        idempotency_key: str | None = None,
        repeatable: bool | None = None,
    ) -> Json:
        """Send a body as JSON; the answer, {} where it has none.

        `repeatable`: None means all but a POST without a key.
        Errors: ValueError for what is no JSON (UnicodeEncodeError is one); as `send`.
        """
        headers = {"Content-Type": "application/json"} if body is not None else {}
        headers |= {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        # Text that is no Unicode, and numbers that JSON does not have, are refused here and not by the gateway.
        content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode() if body is not None else None
        again = method != "POST" or idempotency_key is not None if repeatable is None else repeatable
        return _json_of(await self.send(Request(method, path, {}, headers, content, repeatable=again)))

    async def create(self, path: str, body: object, idempotency_key: str | None = None) -> Json:
        """POST under an idempotency key, an own one if none is given: no retry makes a second one."""
        return await self.write("POST", path, body, idempotency_key=idempotency_key or new_key())

    async def upload(self, path: str, data: bytes, content_type: str) -> Json:
        """POST bytes; the same bytes are the same upload."""
        return _json_of(await self.send(Request("POST", path, {}, {"Content-Type": content_type}, data)))

    async def send(self, request: Request) -> httpx.Response:
        """The answer after retries, read to its end. Errors: ProblemError, GatewayUnavailable, InvalidConnection."""
        failures = 0
        while True:
            try:
                async with self.transport.open(request) as opened:
                    await opened.read()
                    response = opened.response
                    if response.is_success:
                        self._note(response)
                        return response
                failure: httpx.Response | httpx.TransportError = response
            except httpx.TransportError as error:
                failure = error
                if failures == 0 and self.retries.tries > 1:
                    self._notify(f"no answer from {self.connection.base_url}; trying again")
            failures += 1
            await self.pause_or_raise(failure, failures, repeatable=request.repeatable)

    def _note(self, response: httpx.Response) -> None:
        self.newest.note(int(response.headers.get("Forge-Sequence", 0)), response.headers.get("Forge-Log", ""))

    async def pause_or_raise(
        self,
        failure: httpx.Response | httpx.TransportError,
        failures: int,
        *,
        repeatable: bool = True,
        least_seconds: float = 0.0,
        most_seconds: float = math.inf,
    ) -> None:
        """Wait before the next try. Errors: ProblemError, GatewayUnavailable when there is to be none."""
        seconds = self.retries.pause_seconds(failure, failures, repeatable=repeatable)
        if seconds is None:
            raise self._error_of(failure)
        await self.transport.pause(min(max(seconds, least_seconds), most_seconds))

    def _error_of(self, failure: httpx.Response | httpx.TransportError) -> ClientError:
        if isinstance(failure, httpx.TransportError):
            error: ClientError = GatewayUnavailable(self.connection.base_url, str(failure) or type(failure).__name__)
            error.__cause__ = failure
            return error
        problem = problem_of(failure)
        if problem.code in _LOST_PLACE:
            self.newest.forget()
        return problem

    async def events(
        self, path: str, jobs: int | None = 1, deadline: Deadline = Deadline(), last_id: str = ""
    ) -> AsyncGenerator[ServerSentEvent, None]:
        """Events after an id, then new ones, until so many jobs have ended; resumes without gap or repeat.

        Errors: ProblemError, GatewayUnavailable when no try gets an answer; DeadlinePassed.
        """
        position = StreamPosition(last_id)
        while True:
            failure: httpx.Response | httpx.TransportError | None = httpx.ReadError("ended before the last event")
            try:
                async with aclosing(open_stream(self.transport, path, position.last_id, deadline)) as messages:
                    async for message in messages:
                        if position.take(message):
                            self.newest.note(position.sequence)
                            yield message
                        if position.ended == jobs:
                            return
            except StreamEnded:
                return
            except StreamInterrupted:
                failure = None
            except StreamRefused as refused:
                failure = refused.response
            except httpx.TransportError as error:
                failure = error
                self._notify(f"the stream from {self.connection.base_url} broke; resuming after {position}")
            if deadline.left_seconds() == 0:
                raise DeadlinePassed
            if failure is None:
                continue
            position.failures += 1
            await self.pause_or_raise(
                failure, position.failures, least_seconds=position.asked_seconds, most_seconds=deadline.left_seconds()
            )


def _json_of(response: httpx.Response) -> Json:
    try:
        found: Json = json.loads(response.content or b"{}")
    except ValueError as error:
        raise UnreadableReply(f"{response.request.method} {response.request.url}", f"no JSON: {error}") from error
    return found
