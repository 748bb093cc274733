"""HTTP client of the gateway: retries what is safe to retry, and raises refusals as `ProblemError`."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urljoin

import httpx
from httpx_sse import EventSource, ServerSentEvent

from dreamforge.cli.client.http import http_client
from dreamforge.cli.console import err
from dreamforge.cli.failure import CommandError, Exit, ProblemError
from dreamforge.cli.settings import CliSettings, gateway_url
from dreamforge.contracts.events import TERMINAL_EVENTS, Event
from dreamforge.contracts.log.envelope import BY_TYPE
from dreamforge.runtime import ids

CONNECT_SECONDS = 3.0
# Longer than the gateway waits for its read tables (5 s) before it answers 503 itself.
ANSWER_SECONDS = 15.0
# Heartbeats arrive every 15 s: after three times as long without one the connection is dead.
SILENCE_SECONDS = 45.0
# A restart of the gateway takes about 2 s, on a busy machine 5 s; so many tries reach over 10 s.
TRIES = 8
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.2, 5.0
RETRIED = frozenset({502, 503, 504})
NO_GATEWAY_HINT = (
    "start the stack with `dreamforge up`, or name another gateway with --gateway URL or FORGE_GATEWAY_URL"
)
TERMINAL_TOKENS = frozenset(event.TOKEN for event in TERMINAL_EVENTS)

Json = dict[str, Any]  # Any: JSON as the gateway's OpenAPI document describes it


class _StreamEnded(Exception):
    """The stream has no event after the last one that was received."""


class GatewayClient:
    """Connection of one caller. It reads its own writes: each read names the newest log sequence that it knows.

    `notify` is called with each problem that a retry may solve. `transport` replaces the network.
    """

    def __init__(
        self,
        settings: CliSettings,
        notify: Callable[[str], None] = err.print,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._notify = notify
        self.base_url = gateway_url(settings)
        self.tenant = settings.tenant
        self._sequence = 0
        self._log = ""
        # No setting names a gateway, and no stack runs here: one try at the default address is enough.
        expected = {"gateway_url", "gateway_port"} & settings.model_fields_set
        self._tries = TRIES if expected else 1
        self._http = http_client(
            self.base_url,
            headers=headers_of(settings),
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
        """Submit a job; a retry uses the same idempotency key, so it cannot make a second job."""
        return await self._write("/v1/jobs", body, {"Idempotency-Key": ids.new_id()})

    async def submit_batch(self, body: Json) -> Json:
        """Submit a batch; a retry uses the same idempotency key, so it cannot make a second one."""
        return await self._write("/v1/batches", body, {"Idempotency-Key": ids.new_id()})

    async def cancel_batch(self, batch_id: str) -> Json:
        """Cancel every job of a batch that has not ended. Idempotent."""
        return await self._write(f"/v1/batches/{batch_id}/cancel", None, {})

    async def command(self, job_id: str, name: str, body: Json | None = None) -> Json:
        """A command to a job, such as `cancel`. Idempotent."""
        return await self._write(f"/v1/jobs/{job_id}/{name}", body, {})

    async def command_queue(self, name: str, tenant: str | None) -> Json:
        """`hold` or `release` of a tenant's queue; None: of every queue. Idempotent."""
        return await self._write(f"/v1/queue/{name}", {"tenant": tenant}, {})

    async def configure_tenant(self, name: str, change: Json) -> Json:
        """Set quotas and the weight of a tenant; null is the quota of the installation. Idempotent."""
        response = await self._answer("PATCH", f"/v1/tenants/{quote(name, safe='')}", headers={}, json=change)
        found: Json = response.json()
        return found

    async def upload(self, data: bytes, content_type: str) -> Json:
        """Upload an image to render from; the answer has the hash that names it."""
        headers = {"Content-Type": content_type}
        response = await self._answer("POST", "/v1/uploads", headers=headers, content=data)
        found: Json = response.json()
        return found

    async def import_picture(self, data: bytes, content_type: str) -> Json:
        """The request in a picture; the picture is not stored."""
        headers = {"Content-Type": content_type}
        response = await self._answer("POST", "/v1/imports", headers=headers, content=data)
        found: Json = response.json()
        return found

    async def read(self, path: str, **query: str | int | None) -> Json:
        """One document, at least as new as the last write of this client."""
        headers = self._newest()
        parameters = {name: value for name, value in query.items() if value is not None}
        response = await self._answer("GET", path, headers=headers, params=parameters)
        found: Json = response.json()
        return found

    def _newest(self) -> dict[str, str]:
        """The headers of a read that must see every write of this client."""
        headers = {"Forge-Min-Sequence": str(self._sequence)} if self._sequence else {}
        return headers | ({"Forge-Log": self._log} if self._log else {})

    async def job(self, job_id: str) -> Json:
        """A job with its attempts and artifacts."""
        return await self.read(f"/v1/jobs/{job_id}")

    async def image(self, url: str) -> bytes:
        """The bytes of an image as it was rendered, through redirects of the gateway. `url` is as a reply has it."""
        whole = {"metadata": "full"}
        response = await self._answer("GET", self.absolute(url), headers={}, params=whole, follow_redirects=True)
        return response.content

    def absolute(self, url: str) -> str:
        """A URL of a reply in full: it has the prefix under which the gateway is published."""
        return urljoin(f"{self.base_url}/", url)

    async def download(self, url: str, path: Path) -> None:
        """Save what is at a URL of a reply, part by part; the file is there when all of it is.

        Errors: ProblemError, CommandError when it cannot be fetched to its end or written.
        """
        part = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            async with self._http.stream("GET", self.absolute(url), headers=self._newest()) as response:
                if not response.is_success:
                    await response.aread()
                    raise _problem(response)
                with part.open("wb") as file:
                    async for data in response.aiter_bytes():
                        file.write(data)
            part.replace(path)
        except httpx.TransportError as error:
            raise self._unavailable(error) from error
        except OSError as error:
            raise CommandError(f"cannot save {path}: {error}", hint="choose another file with --output") from error
        finally:
            part.unlink(missing_ok=True)

    def batch_events(self, batch_id: str, jobs: int) -> AsyncGenerator[ServerSentEvent, None]:
        """As `events`, of all jobs of a batch, until the last of so many has ended."""
        return self._events(f"/v1/batches/{batch_id}/events", jobs)

    def events(self, job_id: str) -> AsyncGenerator[ServerSentEvent, None]:
        """Past events of a job, then new ones, to its end; resumes without gap or repeat after a lost connection.

        Errors: ProblemError, CommandError when no try gets an answer.
        """
        return self._events(f"/v1/jobs/{job_id}/events", 1)

    async def _events(self, path: str, jobs: int) -> AsyncGenerator[ServerSentEvent, None]:
        last_id, failures, asked_seconds, ended = "", 0, 0.0, 0
        while True:
            try:
                async for message in self._stream(path, last_id):
                    if message.retry is not None:
                        asked_seconds = message.retry / 1000
                    if not message.data:  # a heartbeat, or a frame with nothing but `retry`
                        continue
                    last_id, failures = message.id or last_id, 0
                    self._sequence = max(self._sequence, sequence_of(last_id))
                    yield message
                    ended += message.event in TERMINAL_TOKENS
                    if ended == jobs:
                        return
                failures += 1  # the gateway shuts down in order and asks for a reconnect
            except _StreamEnded:
                return
            except httpx.TransportError as error:
                failures += 1
                if failures >= self._tries:
                    raise self._unavailable(error) from error
                self._notify(f"the stream from {self.base_url} broke; resuming after {last_id or 'its start'}")
            except ProblemError as error:
                failures += 1
                if error.status not in RETRIED or failures >= self._tries:
                    raise
            await asyncio.sleep(max(asked_seconds, _pause_seconds(failures)))
            asked_seconds = 0.0

    async def _stream(self, path: str, last_id: str) -> AsyncGenerator[ServerSentEvent, None]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        timeout = httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
        async with self._http.stream("GET", path, headers=headers, timeout=timeout) as answer:
            if answer.status_code == httpx.codes.NO_CONTENT:
                raise _StreamEnded
            if answer.status_code != httpx.codes.OK:
                await answer.aread()
                raise _problem(answer)
            async for message in EventSource(answer).aiter_sse():
                yield message

    async def delete(self, path: str) -> Json:
        """Delete what a path names. Idempotent."""
        return await self._write(path, None, {}, method="DELETE")

    async def write(self, method: str, path: str, body: Json | None) -> Json:
        """Any other write; {} where the answer has no body."""
        response = await self._answer(method, path, headers={}, json=body)
        found: Json = response.json() if response.content else {}
        return found

    async def _write(self, path: str, body: Json | None, headers: dict[str, str], method: str = "POST") -> Json:
        response = await self._answer(method, path, headers=headers, json=body)
        self._sequence = max(self._sequence, int(response.headers.get("Forge-Sequence", 0)))
        self._log = response.headers.get("Forge-Log", self._log)
        found: Json = response.json()
        return found

    async def _answer(self, method: str, path: str, **options: Any) -> httpx.Response:  # Any: httpx's own options
        """The answer, after retries. Errors: ProblemError, CommandError when no try gets an answer."""
        for attempt in range(1, self._tries + 1):
            try:
                response = await self._http.request(method, path, **options)
            except httpx.TransportError as error:
                if attempt == self._tries:
                    raise self._unavailable(error) from error
                if attempt == 1:
                    self._notify(f"no answer from {self.base_url}; trying again")
            else:
                if response.is_success:
                    return response
                if response.status_code not in RETRIED or attempt == self._tries:
                    raise _problem(response)
            await asyncio.sleep(_pause_seconds(attempt))
        raise AssertionError("the last try ends in an answer or an error")

    def _unavailable(self, error: httpx.TransportError) -> CommandError:
        return CommandError(
            f"no gateway answers at {self.base_url}",
            Exit.UNAVAILABLE,
            {"reason": str(error) or type(error).__name__},
            NO_GATEWAY_HINT,
        )


def headers_of(settings: CliSettings) -> dict[str, str]:
    """The tenant, and the key where the gateway asks for one."""
    key = settings.api_key.get_secret_value()
    return {"Forge-Tenant": settings.tenant} | ({"Authorization": f"Bearer {key}"} if key else {})


def event_of(message: ServerSentEvent) -> Event | None:
    """The event in a message; None for a type that only a newer version knows."""
    fields = json.loads(message.data)
    kind = BY_TYPE.get(fields.pop("type", ""))
    own = {name: value for name, value in fields.items() if name not in ("job_id", "sequence")}
    return kind.model_validate(own) if kind else None


def sequence_of(event_id: str) -> int:
    """The log sequence in an event id: a read after the stream must be at least as new.

    >>> sequence_of("1042-77"), sequence_of("")
    (1042, 0)
    """
    sequence = event_id.partition("-")[0]
    return int(sequence) if sequence.isdecimal() else 0


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
