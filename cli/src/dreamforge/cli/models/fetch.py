"""Downloads one file over HTTP, and resumes it after each failure as long as new bytes arrive.

Ours and not `http_get` of huggingface_hub, which also resumes while bytes arrive: that one sends no If-Range, so parts
of two contents could be joined, and it checks the size only.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from dreamforge.cli.models.errors import DownloadFailed
from dreamforge.cli.models.partial_file import PartialFile
from dreamforge.contracts.models.descriptor import ModelFile
from dreamforge.runtime import ids

#: Failures in a row without new bytes. New bytes reset the count, so that large files survive bad networks.
TRIES = 6
#: Complete files in a row with wrong content: once may be the network, twice is the server.
WRONG_FILES = 2
#: A longer Retry-After than this is an error.
RETRY_AFTER_SECONDS_MAX = 60.0
RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
#: A connection that is silent for this long is dead.
TIMEOUT = httpx.Timeout(30.0, connect=10.0)


@dataclass(frozen=True, slots=True)
class Backoff:
    """The delay after the n-th failure in a row: exponential, with jitter."""

    first_seconds: float = 0.5
    cap_seconds: float = 15.0

    def seconds(self, failures: int, minimum: float = 0.0) -> float:
        """At least `minimum`, which the server may ask for."""
        return max(minimum, ids.jitter(min(self.cap_seconds, self.first_seconds * 2 ** (failures - 1))))


@dataclass(eq=False)
class _TransferFailed(Exception):
    """This request did not complete the file; a retry may."""

    reason: str
    retry_after_seconds: float = 0.0
    wrong: bool = False


@dataclass(slots=True)
class Fetcher:
    """Downloads into partial files. Calls `on_bytes(path, size)` as they grow."""

    client: httpx.AsyncClient
    on_bytes: Callable[[str, int], None] = lambda _path, _bytes: None
    backoff: Backoff = field(default_factory=Backoff)

    async def fetch(self, url: str, partial: PartialFile) -> ModelFile:
        """Complete `partial` and check it; the file.

        Errors: DownloadFailed, DiskFull.
        """
        failures = wrong = 0
        most_bytes = partial.size_bytes
        while True:
            try:
                return await self._once(url, partial)
            except _TransferFailed as failure:
                wrong += failure.wrong
                failures = 1 if partial.size_bytes > most_bytes else failures + 1
                most_bytes = max(most_bytes, partial.size_bytes)
                if failures >= TRIES or wrong >= WRONG_FILES:
                    raise self._failed(url, partial, failure.reason) from failure
                delay = self.backoff.seconds(failures, failure.retry_after_seconds)
            await asyncio.sleep(delay)

    async def _once(self, url: str, partial: PartialFile) -> ModelFile:
        size = partial.expected.size_bytes
        if size is not None and partial.size_bytes > size:
            partial.discard()
        if size is None or partial.size_bytes != size or size == 0:
            try:
                await self._receive(url, partial)
            except httpx.UnsupportedProtocol as error:
                raise self._failed(url, partial, f"only http and https are followed: {error}") from error
            except httpx.InvalidURL as error:
                raise self._failed(url, partial, str(error)) from error
            except httpx.HTTPError as error:
                raise _TransferFailed(str(error) or type(error).__name__) from error
        found = await asyncio.to_thread(partial.measure)
        if fault := partial.fault(found):
            partial.discard()
            raise _TransferFailed(fault, wrong=True)
        return found

    async def _receive(self, url: str, partial: PartialFile) -> None:
        headers, offset = _range(partial)
        async with self.client.stream("GET", url, headers=headers, follow_redirects=True) as response:
            self._check_status(url, partial, response, offset)
            start = offset if response.status_code == httpx.codes.PARTIAL_CONTENT else 0
            _check_length(partial, response, start)
            with partial.open(start, _strong_etag(response)) as file:
                async for chunk in response.aiter_raw():
                    start += len(chunk)
                    _check_size(partial, start)
                    partial.write(file, chunk)
                    self.on_bytes(partial.expected.path, start)

    def _check_status(self, url: str, partial: PartialFile, response: httpx.Response, offset: int) -> None:
        status = response.status_code
        reason = f"the server answered {status} {response.reason_phrase}".rstrip()
        if status == httpx.codes.OK:
            return
        if status == httpx.codes.PARTIAL_CONTENT and _starts_at(response, offset):
            return
        if status in (httpx.codes.PARTIAL_CONTENT, httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE):
            partial.discard()
            raise _TransferFailed(f"{reason} for another part of the file than requested")
        if status in RETRIED_STATUS:
            delay = _retry_after(response)
            if delay <= RETRY_AFTER_SECONDS_MAX:
                raise _TransferFailed(reason, retry_after_seconds=delay)
            reason += f" and asks to wait {delay:.0f} s"
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            reason += "; the licence of this model may have to be accepted first, with a token in FORGE_HUB_TOKEN"
        raise self._failed(url, partial, reason)

    def _failed(self, url: str, partial: PartialFile, reason: str) -> DownloadFailed:
        shown = httpx.URL(url).copy_with(username=None, password=None, query=None) if "://" in url else url
        return DownloadFailed(partial.expected.path, str(shown), reason)


def _range(partial: PartialFile) -> tuple[dict[str, str], int]:
    """Headers of a request for the rest. Without sha256 and ETag nothing proves that the parts belong together."""
    headers, offset, etag = {"Accept-Encoding": "identity"}, partial.size_bytes, partial.etag
    if not offset or not (etag or partial.expected.sha256):
        return headers, 0
    headers["Range"] = f"bytes={offset}-"
    if etag:
        headers["If-Range"] = etag
    return headers, offset


def _strong_etag(response: httpx.Response) -> str:
    etag = response.headers.get("ETag", "")
    return "" if etag.startswith("W/") else etag


def _starts_at(response: httpx.Response, offset: int) -> bool:
    return bool(offset) and response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")


def _check_length(partial: PartialFile, response: httpx.Response, start: int) -> None:
    """Refuse a response, before its body, that cannot complete the file."""
    if (encoding := response.headers.get("Content-Encoding", "identity")) != "identity":
        raise _TransferFailed(f"the server sends it encoded as {encoding}, although the request forbids it", wrong=True)
    length, size = response.headers.get("Content-Length"), partial.expected.size_bytes
    if size is not None and length is not None and start + int(length) != size:
        partial.discard()
        raise _TransferFailed(f"the server has {start + int(length)} bytes, but it must have {size}", wrong=True)


def _check_size(partial: PartialFile, size_bytes: int) -> None:
    expected = partial.expected.size_bytes
    if expected is not None and size_bytes > expected:
        partial.discard()
        raise _TransferFailed(f"the server sends more than the {expected} bytes that it must have", wrong=True)


def _retry_after(response: httpx.Response) -> float:
    """Seconds; 0 without one, or for a date, which servers of models do not send."""
    try:
        return max(0.0, float(response.headers.get("Retry-After", "0")))
    except ValueError:
        return 0.0
