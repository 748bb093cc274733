"""What is read ahead is in the page cache, within a limit, and only what a load would read."""

import os
import threading
from pathlib import Path

import pytest

from dreamforge.gpu_runner.machine.page_cache import CHUNK_BYTES, chunks_of, read_ahead
from dreamforge.runtime.storage.weight_files import weight_files

pytestmark = pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="Linux alone says what is in its page cache")


def is_cached(file: Path, offset: int = 0) -> bool:
    """Whether a page is in memory: a read that may not wait gives it."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def on_disk(file: Path, size_bytes: int) -> Path:
    """A file that is in no cache, where its file system is on a disk."""
    with file.open("wb") as opened:
        opened.write(os.urandom(size_bytes))
        opened.flush()
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return file


def test_what_was_read_ahead_needs_no_disk(tmp_path: Path) -> None:
    size_bytes = CHUNK_BYTES + 8192
    file = on_disk(tmp_path / "weights", size_bytes)
    was_cached = is_cached(file)  # where the file system is in memory
    read_bytes = read_ahead([file, tmp_path / "gone"], limit_bytes=1 << 40)
    assert all(is_cached(file, offset) for offset in (0, CHUNK_BYTES, size_bytes - 1))
    assert was_cached or read_bytes >= CHUNK_BYTES, "the kernel itself reads a little beyond the first chunk"
    assert read_ahead([file], limit_bytes=1 << 40) == 0, "it is there"


def test_no_more_is_read_than_the_limit_and_nothing_after_a_stop(tmp_path: Path) -> None:
    file = on_disk(tmp_path / "weights", 3 * CHUNK_BYTES)
    assert chunks_of([file], 2 * CHUNK_BYTES + 1) == ((file, 0), (file, CHUNK_BYTES))
    assert read_ahead([file], limit_bytes=CHUNK_BYTES - 1) == 0
    stop = threading.Event()
    stop.set()
    assert read_ahead([file], limit_bytes=1 << 40, stop=stop) == 0


def test_the_variant_that_is_loaded_is_read_and_no_other(tmp_path: Path) -> None:
    sizes = {
        "unet/diffusion_pytorch_model.fp16.safetensors": 30,
        "unet/diffusion_pytorch_model.safetensors": 60,
        "vae/diffusion_pytorch_model.fp16.safetensors": 10,
        "sd15.safetensors": 5,
        "unet/config.json": 1,
    }
    for name, size_bytes in sizes.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * size_bytes)
    assert [file.relative_to(tmp_path).as_posix() for file in weight_files(tmp_path)] == [
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "sd15.safetensors",
    ]
