"""Reads the event log from NATS: the events of one job, or all events from a position on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import datetime

from nats.errors import Error as NatsError

from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.errors import DependencyAway, MalformedEvent
from dreamforge.contracts.log.envelope import Recorded, unseal
from dreamforge.contracts.log.streams import JOBS
from dreamforge.contracts.log.subjects import job_filter
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.bus import Bus, connect
from dreamforge.runtime.log.follow import Batch, Follower
from dreamforge.runtime.log.job_steps import steps_after
from dreamforge.runtime.log.readable import readable

# `connect` itself waits without a limit; a person at a terminal does not.
CONNECT_SECONDS = 3.0


@asynccontextmanager
async def connect_bus(settings: CliSettings) -> AsyncIterator[Bus]:
    """A connection for one command. Errors: DependencyAway when NATS does not answer."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            bus = await connect(settings.nats_url, "cli", settings.nats_prefix, seed_file=settings.nats_seed_file)
    except (NatsError, OSError, TimeoutError) as error:
        where = settings.nats_url.rpartition("@")[2].removeprefix("nats://")  # without its token
        reason = f"no answer at {where} within {CONNECT_SECONDS:g} s"
        raise DependencyAway(dependency="nats", reason=reason) from error
    try:
        yield bus
    finally:
        await bus.close()


async def events_of_job(bus: Bus, job_id: str) -> list[Recorded]:
    """Every event of a job, steps included; [] if there is no such job."""
    facts = await direct_get.last_of_each(bus, JOBS.name, job_filter(job_id))
    found = [*facts, *(await steps_after(bus, job_id, 0) if facts else ())]
    return [recorded for message in found if (recorded := readable(message))]


async def read_events(follower: Follower, *, until_end: bool) -> AsyncIterator[Recorded | MalformedEvent]:
    """Events in log order; a message that cannot be read is yielded as the error that says why.

    `until_end`: stop at the end of the log; otherwise wait for new events forever.
    """
    async with aclosing(follower.batches()) as batches:
        async for batch in batches:
            for found in _events(batch):
                yield found
            if until_end and batch.pending == 0:
                return


def _events(batch: Batch) -> list[Recorded | MalformedEvent]:
    found: list[Recorded | MalformedEvent] = []
    for message in batch.messages:
        try:
            found.append(unseal(message.subject, message.headers, message.data, sequence=message.sequence))
        except MalformedEvent as error:
            found.append(error)
    return found


async def first_sequence_at(bus: Bus, stream: str, at: datetime) -> int:
    """The sequence of the first message stored at or after a time; one past the last if there is none.

    Errors: DependencyAway, ApiError.
    """
    info = await bus.request(f"$JS.API.STREAM.INFO.{stream}", None)
    end = int(info["state"]["last_seq"]) + 1
    answer = await bus.ask(f"$JS.API.DIRECT.GET.{stream}", b'{"start_time":"%b"}' % at.isoformat().encode())
    return int((answer.headers or {}).get("Nats-Sequence", end))
