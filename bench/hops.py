"""Where the milliseconds between a POST and the start of a job are.

A stack with the synthetic renderer, jobs at a steady rate. `decided` is the time that an event states, `seen` when this
process has read it from the log: so from decided to seen are an append, its fsync and the delivery, of which a start
has three, one after the other.

Usage: python -m bench.hops [--rate 20] [--seconds 8] [--json FILE]
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.pipeline import WARM_UP_JOBS, at_full_speed, at_rate
from bench.results import Metric, add_json_option, report
from bench.timing import percentile

from dreamforge.cli.settings import CliSettings
from dreamforge.cli.stack.local import LocalStack
from dreamforge.cli.stack.plan import StackOptions
from dreamforge.cli.stack_record import StackRecord
from dreamforge.contracts.events import Event
from dreamforge.contracts.log.envelope import unseal
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import Follower

SUBJECTS = tuple(f"forge.jobs.*.*.{each}" for each in ("requested", "assigned.*", "started.*"))
HOPS = (
    ("sent, requested decided", "sent", "requested"),
    ("requested decided, seen", "requested", "requested seen"),
    ("requested decided, assigned decided", "requested", "assigned"),
    ("assigned decided, seen", "assigned", "assigned seen"),
    ("assigned decided, started decided", "assigned", "started"),
    ("started decided, seen", "started", "started seen"),
    ("sent, started seen", "sent", "started seen"),
)


@dataclass
class Moments:
    """When what happened to each job, in seconds since 1970, by its name."""

    of: dict[str, dict[str, float]] = field(default_factory=dict)
    moved: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def follow(self, bus: Bus) -> None:
        """Note every request, assignment and start."""
        async for batch in Follower(bus, "JOBS", SUBJECTS).batches():
            now = time.time()
            for message in batch.messages:
                event = unseal(message.subject, message.headers, message.data, sequence=1).event
                self.note(message.subject.split(".")[2], event, now)
            async with self.moved:
                self.moved.notify_all()

    def note(self, job_id: str, event: Event, now: float) -> None:
        """An event of a job, read `now`."""
        at = self.of.setdefault(job_id, {})
        at[event.TOKEN], at[f"{event.TOKEN} seen"] = event.at.timestamp(), now

    async def until_started(self, jobs: int) -> None:
        """Wait until so many jobs have started."""
        async with self.moved:
            await self.moved.wait_for(lambda: sum("started" in at for at in self.of.values()) >= jobs)


def hop_seconds(jobs: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    """Each hop of each job."""
    moments = tuple(jobs)
    return {name: [at[end] - at[begin] for at in moments] for name, begin, end in HOPS}


async def measure(stack: StackRecord, rate: float, seconds: float) -> list[Metric]:
    """The hops of each job, and the floor."""
    bus = await bus_module.connect(stack.settings["FORGE_NATS_URL"], "bench")
    moments = Moments()
    following = asyncio.create_task(moments.follow(bus))
    await at_full_speed(stack.gateway_url, WARM_UP_JOBS, False)
    await moments.until_started(WARM_UP_JOBS)
    sent = await at_rate(stack.gateway_url, rate, seconds, False)
    await moments.until_started(WARM_UP_JOBS + len(sent))
    times = hop_seconds({"sent": at, **moments.of[job_id]} for job_id, at in sent.items())
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await bus.close()
    print(f"{'ms':40}{'p50':>8}{'p99':>8}")
    for name, found in times.items():
        print(f"{name:40}{1000 * percentile(found, 0.5):8.2f}{1000 * percentile(found, 0.99):8.2f}")
    return [Metric.milliseconds(name.replace(" ", "_"), percentile(found, 0.5)) for name, found in times.items()]


async def main(rate: float, seconds: float) -> list[Metric]:
    """Start a stack of its own, measure, stop it."""
    os.environ["FORGE_LOG_LEVEL"] = "WARNING"
    with tempfile.TemporaryDirectory() as folder:
        settings = CliSettings(_env_file=None, state_dir=Path(folder))
        async with LocalStack(settings, StackOptions(gateway_port=free_port(), renderer="synthetic")) as stack:
            return await measure(stack.record(), rate, seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=8.0)
    add_json_option(parser)
    arguments = parser.parse_args()
    report("hops", asyncio.run(main(arguments.rate, arguments.seconds)), arguments.json)
