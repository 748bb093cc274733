"""A model's file is visible only when it is right, whatever the server and the disk do meanwhile."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from dreamforge.cli.models.download import Downloader, FileDownload, _lock
from dreamforge.cli.models.errors import DiskFull, DownloadFailed, DownloadRunning
from dreamforge.cli.models.fetch import TRIES, Backoff, Fetcher
from dreamforge.cli.models.partial_file import ExpectedFile
from dreamforge.contracts.models.model_files import PickleRefused
from dreamforge.runtime.testing.disks import small_disk

from .faulty_server import FaultyServer, serving, weights_of

WEIGHTS = "unet/model.safetensors"
FILES = {WEIGHTS: weights_of(bytes(range(256)) * 4096), "model_index.json": b"{}", "empty.txt": b""}
NO_DELAY = Backoff(first_seconds=0, cap_seconds=0)


@pytest.fixture
async def server() -> AsyncIterator[FaultyServer]:
    async with serving(dict(FILES)) as server:
        yield server


@pytest.fixture
async def downloader() -> AsyncIterator[Downloader]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield Downloader(Fetcher(client, backoff=NO_DELAY))


def pinned(path: str) -> ExpectedFile:
    return ExpectedFile(path, len(FILES[path]), hashlib.sha256(FILES[path]).hexdigest())


def download_of(server: FaultyServer, path: str = WEIGHTS, *, pin: bool = True) -> FileDownload:
    return FileDownload(pinned(path) if pin else ExpectedFile(path), f"{server.url}/{path}")


def visible(folder: Path) -> set[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if not path.name.startswith(".")}


async def test_every_file_is_downloaded(server: FaultyServer, downloader: Downloader, tmp_path: Path) -> None:
    found = await downloader.download([download_of(server, path) for path in FILES], tmp_path)
    assert {file.path for file in found} == FILES.keys() == visible(tmp_path)
    assert all((tmp_path / path).read_bytes() == content for path, content in FILES.items())


async def test_a_complete_file_is_not_downloaded_again(
    server: FaultyServer, downloader: Downloader, tmp_path: Path
) -> None:
    first = await downloader.download([download_of(server)], tmp_path)
    assert await downloader.download([download_of(server)], tmp_path) == first
    assert len(server.requests) == 1


async def test_a_corrupt_file_is_downloaded_again(server: FaultyServer, downloader: Downloader, tmp_path: Path) -> None:
    await downloader.download([download_of(server)], tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"x" * len(FILES[WEIGHTS]))
    await downloader.download([download_of(server)], tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == FILES[WEIGHTS]


@pytest.mark.parametrize("pin", [True, False], ids=["pinned", "open"])
async def test_a_dropped_connection_is_resumed(
    server: FaultyServer, downloader: Downloader, tmp_path: Path, pin: bool
) -> None:
    server.faults[WEIGHTS] = lambda number: "drop" if number <= 2 * TRIES else "fine"  # each brings something
    await downloader.download([download_of(server, pin=pin)], tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    assert server.requests[1].headers["range"] == f"bytes={len(FILES[WEIGHTS]) // 2}-"
    assert server.requests[1].headers["if-range"]


async def test_an_unpinned_file_without_an_etag_starts_again(
    server: FaultyServer, downloader: Downloader, tmp_path: Path
) -> None:
    server.etags = False
    server.faults[WEIGHTS] = lambda number: "drop" if number == 1 else "fine"
    await downloader.download([download_of(server, pin=False)], tmp_path)
    assert "range" not in server.requests[1].headers
    assert (tmp_path / WEIGHTS).read_bytes() == FILES[WEIGHTS]


async def test_a_download_resumes_after_a_crash(server: FaultyServer, downloader: Downloader, tmp_path: Path) -> None:
    server.faults[WEIGHTS] = lambda number: "drop" if number == 1 else "404"
    with pytest.raises(DownloadFailed):
        await downloader.download([download_of(server)], tmp_path)
    assert visible(tmp_path) == set()
    del server.faults[WEIGHTS]
    await downloader.download([download_of(server)], tmp_path)
    assert server.requests[-1].headers["range"] == f"bytes={len(FILES[WEIGHTS]) // 2}-"
    assert (tmp_path / WEIGHTS).read_bytes() == FILES[WEIGHTS]


@pytest.mark.parametrize("words", [("drop", "ignore-range"), ("drop", "500", "fine"), ("429", "503", "fine")])
async def test_a_temporary_fault_is_retried(
    server: FaultyServer, downloader: Downloader, tmp_path: Path, words: tuple[str, ...]
) -> None:
    server.faults[WEIGHTS] = lambda number: words[min(number, len(words)) - 1]
    await downloader.download([download_of(server)], tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == FILES[WEIGHTS]


async def test_parts_of_two_contents_are_not_joined(
    server: FaultyServer, downloader: Downloader, tmp_path: Path
) -> None:
    server.faults[WEIGHTS] = lambda number: "drop" if number == 1 else "changed"
    await downloader.download([download_of(server, pin=False)], tmp_path)
    half = len(FILES[WEIGHTS]) // 2
    assert server.requests[1].headers["range"] == f"bytes={half}-"
    assert (tmp_path / WEIGHTS).read_bytes() == FILES[WEIGHTS][:half] + bytes(x ^ 1 for x in FILES[WEIGHTS][half:])


async def test_an_unpinned_file_that_ends_early_is_found_by_its_own_header(
    server: FaultyServer, downloader: Downloader, tmp_path: Path
) -> None:
    server.faults[WEIGHTS] = lambda _: "unsaid"
    with pytest.raises(DownloadFailed, match="its own header lists"):
        await downloader.download([download_of(server, pin=False)], tmp_path)
    assert visible(tmp_path) == set()


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("wrong", "sha256"),
        ("short", f"must have {len(FILES[WEIGHTS])}"),
        ("long", f"must have {len(FILES[WEIGHTS])}"),
        ("gzip", "encoded as gzip"),
        ("404", "404"),
        ("403", "FORGE_HUB_TOKEN"),
        ("500", "500"),
        ("redirect:ftp://127.0.0.1/x", "only http and https"),
        ("redirect:file:///etc/hostname", "only http and https"),
    ],
)
async def test_a_permanent_fault_is_reported_and_nothing_becomes_visible(
    server: FaultyServer, downloader: Downloader, tmp_path: Path, word: str, reason: str
) -> None:
    server.faults[WEIGHTS] = lambda _: word
    with pytest.raises(DownloadFailed, match=reason) as refused:
        await downloader.download([download_of(server)], tmp_path)
    assert refused.value.path == WEIGHTS
    assert len(server.requests) <= TRIES
    assert visible(tmp_path) == set()


async def test_a_redirect_is_followed(server: FaultyServer, downloader: Downloader, tmp_path: Path) -> None:
    server.faults["elsewhere"] = lambda _: f"redirect:{server.url}/{WEIGHTS}"
    await downloader.download([FileDownload(pinned(WEIGHTS), f"{server.url}/elsewhere")], tmp_path)
    assert visible(tmp_path) == {WEIGHTS}


async def test_one_failure_ends_the_download_and_keeps_complete_files(
    server: FaultyServer, downloader: Downloader, tmp_path: Path
) -> None:
    downloader._slots._value = 1  # one after the other, so that the order is known
    server.faults[WEIGHTS] = lambda _: "404"
    with pytest.raises(DownloadFailed):
        await downloader.download([download_of(server, "model_index.json"), download_of(server)], tmp_path)
    assert visible(tmp_path) == {"model_index.json"}


async def test_no_more_connections_than_allowed(server: FaultyServer, downloader: Downloader, tmp_path: Path) -> None:
    server.files |= {f"{number}.json": b"1" * 100_000 for number in range(20)}
    downloads = [FileDownload(ExpectedFile(f"{number}.json"), f"{server.url}/{number}.json") for number in range(20)]
    await downloader.download(downloads, tmp_path)
    assert server.open_most <= downloader.parallel


async def test_a_pickle_is_refused_before_any_request(
    server: FaultyServer, downloader: Downloader, tmp_path: Path
) -> None:
    with pytest.raises(PickleRefused, match="safetensors"):
        await downloader.download(
            [download_of(server), FileDownload(ExpectedFile("unet/model.bin"), f"{server.url}/x")], tmp_path
        )
    assert server.requests == []


async def test_disk_space_is_checked_first(server: FaultyServer, downloader: Downloader, tmp_path: Path) -> None:
    downloader.free_bytes = lambda _: len(FILES[WEIGHTS]) - 1
    with pytest.raises(DiskFull) as refused:
        await downloader.download([download_of(server)], tmp_path)
    assert (refused.value.needed_bytes, refused.value.free_bytes) == (len(FILES[WEIGHTS]), len(FILES[WEIGHTS]) - 1)
    assert server.requests == []


@pytest.mark.parametrize("offline", [False, True], ids=["server", "folder"])
async def test_a_disk_that_fills_up_meanwhile_is_reported_with_the_bytes_needed(
    server: FaultyServer, downloader: Downloader, tmp_path: Path, offline: bool
) -> None:
    source = tmp_path / "weights"
    source.write_bytes(FILES[WEIGHTS])
    downloader.free_bytes = lambda _: len(FILES[WEIGHTS])  # enough at the check; another process used it since
    download = FileDownload(pinned(WEIGHTS), source) if offline else download_of(server)
    with small_disk(tmp_path / "disk", 2**19) as disk:
        with pytest.raises(DiskFull) as refused:
            await downloader.download([download], disk)
        assert visible(disk) == set()
    assert len(FILES[WEIGHTS]) // 2 <= refused.value.needed_bytes < len(FILES[WEIGHTS])
    assert refused.value.free_bytes < 2**19


async def test_a_folder_is_a_mirror_too(downloader: Downloader, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "unet").mkdir(parents=True)
    (source / WEIGHTS).write_bytes(FILES[WEIGHTS])
    await downloader.download([FileDownload(pinned(WEIGHTS), source / WEIGHTS)], tmp_path / "models")
    (source / WEIGHTS).write_bytes(b"wrong")
    with pytest.raises(DownloadFailed, match="must have"):
        await downloader.download([FileDownload(pinned(WEIGHTS), source / WEIGHTS)], tmp_path / "others")
    with pytest.raises(DownloadFailed, match="does not exist"):
        await downloader.download([FileDownload(pinned("empty.txt"), source / "empty.txt")], tmp_path / "others")
    assert visible(tmp_path / "others") == set()


async def test_two_downloads_to_one_place_are_not_mixed(
    server: FaultyServer, downloader: Downloader, tmp_path: Path
) -> None:
    with _lock(tmp_path), pytest.raises(DownloadRunning):
        await downloader.download([download_of(server)], tmp_path)
