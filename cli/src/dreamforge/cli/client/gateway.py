"""The gateway as this command sees it: every call retried where that is safe, every refusal an error of ours."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self

import httpx

from dreamforge.cli.client.sse import SseMessage, SseParser
from dreamforge.cli.console import err
from dreamforge.cli.failure import CommandError, Exit, ProblemError
from dreamforge.cli.settings import CliSettings, gateway_url
from dreamforge.contracts.events import TERMINAL_EVENTS, Event
from dreamforge.contracts.log.envelope import BY_TYPE
from dreamforge.runtime import ids

CONNECT_SECONDS = 3.0
# Longer than the gateway waits for its read tables (5 s) before it answers 503 itself.
ANSWER_SECONDS = 15.0
# Heartbeats come every 15 s: silence three times as long means that nobody is there.
SILENCE_SECONDS = 45.0
# A restart of the gateway takes about 2 s, on a busy machine 5 s; so many tries reach over 10 s.
TRIES = 8
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.2, 5.0
RETRIED = frozenset({502, 503, 504})
TERMINAL_TOKENS = frozenset(event.TOKEN for event in TERMINAL_EVENTS)

Json = dict[str, Any]  # Any: JSON as the gateway's OpenAPI document describes it


class _SeenToItsEnd(Exception):
    """The stream has nothing after the id that we gave."""


class Gateway:
    """One caller's connection. What it wrote or was told it sees: reads name the newest sequence it knows of.

    `notice` hears of trouble that may pass. `transport` replaces the network.
    """

    def __init__(
        self,
        settings: CliSettings,
        notice: Callable[[str], None] = err.print,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._notice = notice
        self.base_url = gateway_url(settings)
        self._sequence = 0
        # Nobody said that a gateway runs, and no stack does here: one look at the default address is enough.
        expected = {"gateway_url", "gateway_port"} & settings.model_fields_set
        self._tries = TRIES if expected else 1
        self._http = httpx.AsyncClient(
            base_url=self.base_url,
            headers={"Forge-Tenant": settings.tenant},
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def submit(self, body: Json) -> Json:
        """Make a job; a try that was cut off is repeated under the same key and cannot make a second one."""
        return await self._write("/v1/jobs", body, {"Idempotency-Key": ids.new_id()})

    async def cancel(self, job_id: str) -> Json:
        """Ask for a job to stop; asking twice is asking once."""
        return await self._write(f"/v1/jobs/{job_id}/cancel", None, {})

    async def upload(self, data: bytes, content_type: str) -> Json:
        """Give the gateway a picture to paint from; what it is called from then on is its hash."""
        headers = {"Content-Type": content_type}
        response = await self._answer("POST", "/v1/uploads", headers=headers, content=data)
        found: Json = response.json()
        return found

    async def read(self, path: str, **query: str | int | None) -> Json:
        """One document, at least as new as our last write."""
        headers = {"Forge-Min-Sequence": str(self._sequence)} if self._sequence else {}
        parameters = {name: value for name, value in query.items() if value is not None}
        response = await self._answer("GET", path, headers=headers, params=parameters)
        found: Json = response.json()
        return found

    async def job(self, job_id: str) -> Json:
        """A job with its attempts and pictures."""
        return await self.read(f"/v1/jobs/{job_id}")

    async def picture(self, url: str) -> bytes:
        """The bytes of a picture, wherever the gateway sends us for them."""
        response = await self._answer("GET", url, headers={}, follow_redirects=True)
        return response.content

    async def events(self, job_id: str) -> AsyncIterator[SseMessage]:
        """A job's history, then its life, to its end; resumed without gap or repeat when the connection breaks.

        Errors: ProblemError, CommandError when nobody answers, try after try.
        """
        last_id, failures = "", 0
        while True:
            try:
                async for message in self._stream(job_id, last_id):
                    last_id, failures = message.id or last_id, 0
                    self._sequence = max(self._sequence, facts_seen(last_id))
                    yield message
                    if message.event in TERMINAL_TOKENS:
                        return
                failures += 1  # the gateway goes down in order, and asks us to come back
            except _SeenToItsEnd:
                return
            except httpx.TransportError as error:
                failures += 1
                if failures >= self._tries:
                    raise self._away(error) from error
                self._notice(f"the stream from {self.base_url} broke; resuming after {last_id or 'its start'}")
            except ProblemError as error:
                failures += 1
                if error.status not in RETRIED or failures >= self._tries:
                    raise
            await asyncio.sleep(_pause_seconds(failures))

    async def _stream(self, job_id: str, last_id: str) -> AsyncIterator[SseMessage]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        timeout = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
        parser = SseParser(last_id)
        async with self._http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers, timeout=timeout) as answer:
            if answer.status_code == httpx.codes.NO_CONTENT:
                raise _SeenToItsEnd
            if answer.status_code != httpx.codes.OK:
                await answer.aread()
                raise _problem(answer)
            async for line in answer.aiter_lines():
                for message in parser.feed(line):
                    yield message

    async def _write(self, path: str, body: Json | None, headers: dict[str, str]) -> Json:
        response = await self._answer("POST", path, headers=headers, json=body)
        self._sequence = max(self._sequence, int(response.headers.get("Forge-Sequence", 0)))
        found: Json = response.json()
        return found

    async def _answer(self, method: str, path: str, **options: Any) -> httpx.Response:  # Any: httpx's own options
        """The answer, after retries. Errors: ProblemError, CommandError when nobody answers."""
        for attempt in range(1, self._tries + 1):
            try:
                response = await self._http.request(method, path, **options)
            except httpx.TransportError as error:
                if attempt == self._tries:
                    raise self._away(error) from error
                if attempt == 1:
                    self._notice(f"no answer from {self.base_url}; trying again")
            else:
                if response.is_success:
                    return response
                if response.status_code not in RETRIED or attempt == self._tries:
                    raise _problem(response)
            await asyncio.sleep(_pause_seconds(attempt))
        raise AssertionError("the last try ends in an answer or an error")

    def _away(self, error: httpx.TransportError) -> CommandError:
        return CommandError(
            f"no gateway answers at {self.base_url}",
            Exit.AWAY,
            {"reason": str(error) or type(error).__name__},
            "start the stack with `dreamforge up`, or name another gateway with FORGE_GATEWAY_URL",
        )


def event_of(message: SseMessage) -> Event | None:
    """The event in a message; None for a type that a newer gateway knows and we do not."""
    fields = json.loads(message.data)
    kind = BY_TYPE.get(fields.pop("type", ""))
    own = {name: value for name, value in fields.items() if name not in ("job_id", "sequence")}
    return kind.model_validate(own) if kind else None


def facts_seen(event_id: str) -> int:
    """The log sequence in an event id: what a stream has told, a read after it must know too.

    >>> facts_seen("1042-77"), facts_seen("")
    (1042, 0)
    """
    facts = event_id.partition("-")[0]
    return int(facts) if facts.isdecimal() else 0


def _pause_seconds(attempt: int) -> float:
    return ids.jitter(min(LAST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * float(2 ** (attempt - 1))))


def _problem(response: httpx.Response) -> ProblemError:
    try:
        document = json.loads(response.content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = {"title": f"the gateway answered {response.status_code} {response.reason_phrase}"}
    return ProblemError(response.status_code, f"{response.request.method} {response.request.url}", document)
