"""The queue's bound holds between two counts and while Postgres is away."""

import pytest

from dreamforge.contracts.errors import DependencyAway, QueueFull
from dreamforge.gateway.room import Room


async def test_what_was_accepted_since_the_count_counts() -> None:
    async def count() -> int:
        return 2

    room = Room(count, maximum=4)
    await room.refresh()
    for _ in range(2):
        room.require()
        room.taken()
    with pytest.raises(QueueFull) as refused:
        room.require()
    assert (refused.value.open_jobs, refused.value.maximum) == (4, 4)
    await room.close()
    await room.refresh()  # the tables have caught up, and two jobs are done
    room.require()
    await room.close()


async def test_a_count_that_fails_changes_nothing() -> None:
    async def count() -> int:
        raise DependencyAway(dependency="postgres", reason="away")

    room = Room(count, maximum=1)
    room.require()
    await room.refresh()
    room.taken()
    with pytest.raises(QueueFull):
        room.require()
    await room.close()
