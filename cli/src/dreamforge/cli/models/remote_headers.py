"""Reads what a model on a server is before its weights are downloaded: configurations whole, of weights the headers.

They are laid into a folder as sparse files of full size, so that one reader judges files here and there.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import httpx

from dreamforge.cli.models.download import FileDownload
from dreamforge.cli.models.errors import DownloadFailed
from dreamforge.cli.models.hub import refusal
from dreamforge.runtime.storage.safetensors_header import HEADER_BYTES_MAX, LENGTH_BYTES

#: Configurations and vocabularies; the largest usual ones have a few megabytes.
WHOLE_BYTES_MAX = 64 * 2**20
#: Headers of most files fit into the first request.
FIRST_BYTES = 2**20
PARALLEL = 8


async def copy_headers(client: httpx.AsyncClient, downloads: Sequence[FileDownload], folder: Path) -> None:
    """Write each file below `folder`: one of weights as its header and a hole, the others whole.

    Errors: DownloadFailed.
    """
    slots = asyncio.Semaphore(PARALLEL)

    async def copy(each: FileDownload) -> None:
        async with slots:
            await _copy(client, each, folder / each.expected.path)

    await asyncio.gather(*(copy(each) for each in downloads))


async def _copy(client: httpx.AsyncClient, download: FileDownload, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(download.location, Path):
        _link(target, download.location)
        return
    if isinstance(download.location, bytes):
        _write(target, download.location)
        return
    is_weights = target.suffix == ".safetensors"
    try:
        content, size = await _first_bytes(client, download, FIRST_BYTES if is_weights else WHOLE_BYTES_MAX)
        if is_weights and len(content) >= LENGTH_BYTES:
            needed = LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")
            if len(content) < needed <= min(size, HEADER_BYTES_MAX):
                content, size = await _first_bytes(client, download, needed)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _failed(download, str(error) or type(error).__name__) from error
    with target.open("wb") as file:
        file.write(content)
        file.truncate(size)


def _link(target: Path, source: Path) -> None:
    target.symlink_to(source.absolute())


def _write(target: Path, content: bytes) -> None:
    target.write_bytes(content)


async def _first_bytes(client: httpx.AsyncClient, download: FileDownload, count: int) -> tuple[bytes, int]:
    """At most `count` bytes from the start of a file, and the size of all of it."""
    headers = {"Range": f"bytes=0-{count - 1}", "Accept-Encoding": "identity"}
    content = bytearray()
    async with client.stream("GET", str(download.location), headers=headers, follow_redirects=True) as response:
        if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            raise _failed(download, refusal(response.status_code))
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) >= count:  # a server that ignores the range sends all
                break
        size = _size_of(response) or download.expected.size_bytes or len(content)
    return bytes(content[:count]), max(size, len(content[:count]))


def _size_of(response: httpx.Response) -> int | None:
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
        return int(total) if total.isdigit() else None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _failed(download: FileDownload, reason: str) -> DownloadFailed:
    return DownloadFailed(download.expected.path, str(download.location).partition("?")[0], reason)
