"""A disk that has no room left, until it has again."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

# A large piece is refused as a whole where there is room for a part of it.
PIECES_BYTES = (16 * 2**20, 2**20, 2**16, 2**12)
AGAIN_SECONDS = 0.2


@asynccontextmanager
async def full_disk(folder: Path) -> AsyncIterator[None]:
    """What others free meanwhile is taken as well. Errors: OSError other than that there is no room."""
    filler = folder / "filler"
    with filler.open("wb") as file:
        filling = asyncio.create_task(_keep_full(file.fileno()))
        try:
            yield
            if filling.done():
                filling.result()
        finally:
            filling.cancel()
            filler.unlink()


async def _keep_full(descriptor: int) -> None:
    end = 0
    while True:
        for piece in PIECES_BYTES:
            while _takes(descriptor, end, piece):
                end += piece
        await asyncio.sleep(AGAIN_SECONDS)


def _takes(descriptor: int, start: int, size: int) -> bool:
    try:
        os.posix_fallocate(descriptor, start, size)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True
