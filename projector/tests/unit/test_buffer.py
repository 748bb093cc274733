"""What arrives while a batch is written becomes the next batch, and not without bound."""

import asyncio

import pytest

from dreamforge.projector.folding.decode import Decoded
from dreamforge.projector.writing.buffer import BatchBuffer
from dreamforge.runtime.log.message import LogMessage


def some(*sequences: int) -> list[Decoded]:
    return [Decoded(LogMessage("s", {}, b"", sequence), None) for sequence in sequences]


async def test_everything_that_arrived_is_one_batch() -> None:
    buffer = BatchBuffer(10)
    await buffer.put(some(1, 2), pending=5)
    await buffer.put(some(3), pending=4)

    items, pending = await buffer.take()
    assert ([item.message.sequence for item in items], pending) == ([1, 2, 3], 4)


async def test_an_empty_batch_is_passed_on_too() -> None:
    buffer = BatchBuffer(10)
    await buffer.put([], pending=0)

    assert await buffer.take() == ([], 0)


async def test_the_reader_waits_while_the_buffer_is_full() -> None:
    buffer = BatchBuffer(2)
    await buffer.put(some(1, 2, 3), pending=1)
    waiting = asyncio.create_task(buffer.put(some(4), pending=0))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 0.05)

    assert len((await buffer.take())[0]) == 3
    await asyncio.wait_for(waiting, 5)
    assert len((await buffer.take())[0]) == 1
