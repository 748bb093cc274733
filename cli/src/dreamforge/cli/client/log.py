"""Reads the event log itself, from NATS: one job's story, or everything from a place on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import datetime

from nats.errors import Error as NatsError

from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.errors import DependencyAway, MalformedEvent
from dreamforge.contracts.log.envelope import Recorded, unseal
from dreamforge.contracts.log.streams import JOBS, STEPS
from dreamforge.contracts.log.subjects import job_filter, steps_of
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.bus import Bus, connect
from dreamforge.runtime.log.follow import Batch, Follower
from dreamforge.runtime.log.message import LogMessage

# `connect` itself waits for as long as it takes; a person at a terminal does not.
CONNECT_SECONDS = 3.0


@asynccontextmanager
async def bus_of(settings: CliSettings) -> AsyncIterator[Bus]:
    """A connection for one command. Errors: DependencyAway when NATS does not answer."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            bus = await connect(settings.nats_url, "cli")
    except (NatsError, OSError, TimeoutError) as error:
        where = settings.nats_url.rpartition("@")[2].removeprefix("nats://")  # without its token
        reason = f"no answer at {where} within {CONNECT_SECONDS:g} s"
        raise DependencyAway(dependency="nats", reason=reason) from error
    try:
        yield bus
    finally:
        await bus.close()


async def story_of(bus: Bus, job_id: str) -> list[Recorded]:
    """Every event of a job, steps included; [] if there is no such job."""
    facts = await direct_get.last_of_each(bus, JOBS.name, job_filter(job_id))
    found = [*facts, *(await _steps(bus, job_id) if facts else ())]
    return [recorded for message in found if (recorded := _readable(message))]


async def _steps(bus: Bus, job_id: str) -> list[LogMessage]:
    found: list[LogMessage] = []
    while page := await direct_get.after(bus, STEPS.name, steps_of(job_id), found[-1].sequence if found else 0):
        found += page
    return found


def _readable(message: LogMessage) -> Recorded | None:
    try:
        return unseal(message.subject, message.headers, message.data, sequence=message.sequence)
    except MalformedEvent:
        return None


async def follow(follower: Follower, *, to_the_end: bool) -> AsyncIterator[Recorded | MalformedEvent]:
    """Events as the log has them; what nobody can read comes as the error that says why.

    `to_the_end`: stop once everything that is there has been read, else go on for ever.
    """
    async with aclosing(follower.batches()) as batches:
        async for batch in batches:
            for found in _events(batch):
                yield found
            if to_the_end and batch.pending == 0:
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
