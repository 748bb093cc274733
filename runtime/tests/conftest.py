"""What the tests of the runtime share; the rest is imported by name."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dreamforge.runtime.bus import Bus, connect
from dreamforge.runtime.eventstore import EventStore
from dreamforge.runtime.streams import ensure_streams

sys.path.insert(0, str(Path(__file__).parent))  # tests are imported by path; what they share needs a name


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    """A connection to a log of the test's own."""
    connected = await connect(nats_url, "test")
    await ensure_streams(connected)
    yield connected
    await connected.close()


@pytest.fixture
def store(bus: Bus) -> EventStore:
    """The event store on that log."""
    return EventStore(bus, "/dreamforge/test")
