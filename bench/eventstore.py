"""The event store against its upper bound: raw JetStream publishing on the same server, with the same fsync.

Usage: python -m bench.eventstore [--events 4000] [--json FILE]
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.results import Metric, add_json_option, report

from dreamforge.contracts.events import JobRequested
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.runtime import clock, ids
from dreamforge.runtime.embedded import NatsServer
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.bus import Bus, ack
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.streams import ensure_streams

REQUEST = RenderRequest(
    model_id="m", preset="p", prompt="a red circle", width_px=64, height_px=64, steps=4, guidance_scale=1, seed=1
)
PAYLOAD = JobRequested(at=clock.now(), tenant="t", request=REQUEST).model_dump_json().encode()
One = Callable[[], Awaitable[object]]


async def rate(one: One, events: int, writers: int) -> float:
    """Events a second with `writers` that each wait for their own acknowledgement."""

    async def writer() -> None:
        for _ in range(events // writers):
            await one()

    began = time.perf_counter()
    await asyncio.gather(*(writer() for _ in range(writers)))
    return events // writers * writers / (time.perf_counter() - began)


def raw(bus: Bus) -> One:
    """A publish and its ack: no version, no envelope."""

    async def one() -> object:
        return ack(await bus.ask(f"forge.jobs.{ids.new_id()}.0.requested", PAYLOAD))

    return one


def stored(store: EventStore) -> One:
    """What services do: seal, state the version, group commit."""

    async def one() -> object:
        event = JobRequested(at=clock.now(), tenant="t", request=REQUEST)
        return await store.append(ids.new_id(), [event], expected=0)

    return one


async def main(events: int) -> list[Metric]:
    """Print the table; the rates of the event store."""
    metrics = []
    with tempfile.TemporaryDirectory() as folder:
        async with NatsServer(Path(folder)) as server:
            bus = await bus_module.connect(server.url, "bench")
            await ensure_streams(bus)
            store = EventStore(bus, "/dreamforge/bench")
            print("fsync on, one stream, facts of about 300 bytes")
            print(f"{'writers':>8} {'raw publish/s':>14} {'event store/s':>14} {'ratio':>6}")
            for writers in (1, 8, 64, 256):
                ceiling = await rate(raw(bus), events, writers)
                ours = await rate(stored(store), events, writers)
                print(f"{writers:>8} {ceiling:>14.0f} {ours:>14.0f} {ours / ceiling:>6.2f}")
                metrics.append(Metric.rate(f"append_{writers}_writers", ours, "events/s"))
            await bus.close()
    return metrics


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=4_000)
    add_json_option(parser)
    arguments = parser.parse_args()
    report("eventstore", asyncio.run(main(arguments.events)), arguments.json)
