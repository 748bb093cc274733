"""One file over HTTP: resumed where it broke off, as often as it takes, as long as something comes."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from dreamforge.cli.models.errors import DownloadFailed
from dreamforge.cli.models.partial_file import PartialFile
from dreamforge.contracts.models.descriptor import ModelFile
from dreamforge.runtime import ids

#: Calls in a row that bring nothing. One that brought bytes starts the count again: large files outlive bad networks.
TRIES = 6
#: Whole files in a row that were not what they must be: once may be the network, twice is the server.
WRONG_FILES = 2
#: A server that asks for a longer rest than this is not waited for.
RETRY_AFTER_SECONDS_MAX = 60.0
RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
#: A connection that is silent for this long is taken for dead.
TIMEOUT = httpx.Timeout(30.0, connect=10.0)


@dataclass(frozen=True, slots=True)
class Pause:
    """How long to wait after the n-th failure in a row: doubling, jittered."""

    first_seconds: float = 0.5
    cap_seconds: float = 15.0

    def seconds(self, failures: int, asked: float = 0.0) -> float:
        """Never less than the server asked for."""
        return max(asked, ids.jitter(min(self.cap_seconds, self.first_seconds * 2 ** (failures - 1))))


@dataclass(eq=False)
class _TransferFailed(Exception):
    """This call did not bring the rest; another may."""

    reason: str
    retry_after_seconds: float = 0.0
    wrong: bool = False


@dataclass(slots=True)
class Fetcher:
    """Fetches into partial files. `on_bytes(path, bytes here)` is called as they grow."""

    client: httpx.AsyncClient
    on_bytes: Callable[[str, int], None] = lambda _path, _bytes: None
    pause: Pause = field(default_factory=Pause)

    async def fetch(self, url: str, partial: PartialFile) -> ModelFile:
        """Have the whole file in `partial`, checked; what it is.

        Errors: DownloadFailed, DiskFull.
        """
        failures = wrong = 0
        most_bytes = partial.size_bytes
        while True:
            try:
                return await self._once(url, partial)
            except _TransferFailed as broken:
                wrong += broken.wrong
                failures = 1 if partial.size_bytes > most_bytes else failures + 1
                most_bytes = max(most_bytes, partial.size_bytes)
                if failures >= TRIES or wrong >= WRONG_FILES:
                    raise self._failed(url, partial, broken.reason) from broken
                pause = self.pause.seconds(failures, broken.retry_after_seconds)
            await asyncio.sleep(pause)

    async def _once(self, url: str, partial: PartialFile) -> ModelFile:
        size = partial.wanted.size_bytes
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
        found = await asyncio.to_thread(partial.measured)
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
                    _check_room(partial, start)
                    partial.write(file, chunk)
                    self.on_bytes(partial.wanted.path, start)

    def _check_status(self, url: str, partial: PartialFile, response: httpx.Response, offset: int) -> None:
        status = response.status_code
        said = f"the server answered {status} {response.reason_phrase}".rstrip()
        if status == httpx.codes.OK:
            return
        if status == httpx.codes.PARTIAL_CONTENT and _starts_at(response, offset):
            return
        if status in (httpx.codes.PARTIAL_CONTENT, httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE):
            partial.discard()
            raise _TransferFailed(f"{said} for another part of the file than was asked for")
        if status in RETRIED_STATUS:
            asked = _retry_after(response)
            if asked <= RETRY_AFTER_SECONDS_MAX:
                raise _TransferFailed(said, retry_after_seconds=asked)
            said += f" and asks to wait {asked:.0f} s"
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            said += "; this model may ask for its licence to be accepted first, and for a token in FORGE_HUB_TOKEN"
        raise self._failed(url, partial, said)

    def _failed(self, url: str, partial: PartialFile, reason: str) -> DownloadFailed:
        shown = httpx.URL(url).copy_with(username=None, password=None, query=None) if "://" in url else url
        return DownloadFailed(partial.wanted.path, str(shown), reason)


def _range(partial: PartialFile) -> tuple[dict[str, str], int]:
    """Headers of a request for the rest. Without sha256 and ETag nobody could tell that the parts belong together."""
    headers, offset, etag = {"Accept-Encoding": "identity"}, partial.size_bytes, partial.etag
    if not offset or not (etag or partial.wanted.sha256):
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
    """Refuse before the body what cannot become the file."""
    if (encoding := response.headers.get("Content-Encoding", "identity")) != "identity":
        raise _TransferFailed(f"the server sends it encoded as {encoding}, though it was asked not to", wrong=True)
    length, size = response.headers.get("Content-Length"), partial.wanted.size_bytes
    if size is not None and length is not None and start + int(length) != size:
        partial.discard()
        raise _TransferFailed(f"the server has {start + int(length)} bytes, but it must have {size}", wrong=True)


def _check_room(partial: PartialFile, size_bytes: int) -> None:
    wanted = partial.wanted.size_bytes
    if wanted is not None and size_bytes > wanted:
        partial.discard()
        raise _TransferFailed(f"the server sends more than the {wanted} bytes it must have", wrong=True)


def _retry_after(response: httpx.Response) -> float:
    """Seconds; 0 for none, or for a date, which nobody of ours has seen here."""
    try:
        return max(0.0, float(response.headers.get("Retry-After", "0")))
    except ValueError:
        return 0.0
