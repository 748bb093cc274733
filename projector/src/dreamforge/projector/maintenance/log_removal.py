"""Removes an erased job from the log: its events but the last, its steps, and the parked messages about it; of an
archived one what the archive has.

A message is removed by its sequence, by which the server overwrites it on disk; a purge of the subjects does the rest,
and all of it in streams that an older release made, which refuse the first. The server then writes over the bytes
only when it compacts their block.
"""

from collections.abc import Sequence

from loguru import logger

from dreamforge.contracts.installation_events import MessageParked
from dreamforge.contracts.log.streams import JOBS, PARKED, STEPS
from dreamforge.contracts.log.subjects import PARKED_ALL, job_filter, steps_of
from dreamforge.runtime.log import direct_get, leader_get
from dreamforge.runtime.log.bus import ApiError, Bus
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.log.readable import readable

# err_codes of nats-server: there is no such message (any more), in two ways; it was not removed, for some reason.
GONE = (10037, 10043)
NOT_REMOVED, NOT_PERMITTED = 10057, "not permitted"


async def events_before(bus: Bus, job_id: str, sequence: int) -> list[LogMessage]:
    """What the log still has of a job before its last event. Errors: DependencyAway."""
    found = await leader_get.after(bus, JOBS.name, job_filter(job_id), 0, covering=0)
    return [message for message in found if message.sequence < sequence]


async def remove_events(bus: Bus, job_id: str, messages: Sequence[LogMessage], sequence: int) -> None:
    """Remove a job's events before `sequence`, the request last: while it is there, the removal is not complete.

    Errors: DependencyAway, ApiError.
    """
    await _delete(bus, JOBS.name, [message.sequence for message in reversed(messages)])
    await _purge(bus, JOBS.name, {"filter": job_filter(job_id), "seq": sequence})


async def remove_archived(bus: Bus, messages: Sequence[LogMessage]) -> None:
    """Remove events of a job that the archive has, the request first: a fold that meets a part of a job passes over it.

    They are not overwritten: that takes the server 10 ms a message in which it stores nothing, this 0.4 ms (2 cores,
    nats-server 2.15.1). Their bytes go with the block that they are in. Errors: DependencyAway, ApiError.
    """
    if not await _delete(bus, JOBS.name, [message.sequence for message in messages], overwrite=False):
        for message in messages:
            await _purge(bus, JOBS.name, {"filter": message.subject, "seq": message.sequence + 1})


async def remove_steps(bus: Bus, job_id: str) -> None:
    """Remove the steps of a job, with their previews. Errors: DependencyAway, ApiError."""
    for subject in steps_of(job_id):
        after = 0
        while page := await direct_get.after(bus, STEPS.name, subject, after):
            await _delete(bus, STEPS.name, [message.sequence for message in page])
            after = page[-1].sequence
        await _purge(bus, STEPS.name, {"filter": subject})


async def remove_parked(bus: Bus, job_ids: Sequence[str]) -> None:
    """Remove the parked messages about jobs. Errors: DependencyAway, ApiError."""
    after = 0
    while page := await direct_get.after(bus, PARKED.name, PARKED_ALL, after):
        found = [message.sequence for message in page if _is_about(message, job_ids)]
        if not await _delete(bus, PARKED.name, found):
            logger.warning(
                "the stream {} keeps {} messages about erased jobs: see docs/operations.md", PARKED.name, found
            )
        after = page[-1].sequence


def _is_about(message: LogMessage, job_ids: Sequence[str]) -> bool:
    recorded = readable(message)
    event = recorded.event if recorded else None
    if not isinstance(event, MessageParked):
        return False
    return any(job_id in event.subject or job_id.encode() in event.data for job_id in job_ids)


async def _delete(bus: Bus, stream: str, sequences: Sequence[int], *, overwrite: bool = True) -> bool:
    """Overwrite and remove messages. False where the stream does not allow that."""
    for sequence in sequences:
        try:
            request = {"seq": sequence, "no_erase": not overwrite}
            await bus.request(f"$JS.API.STREAM.MSG.DELETE.{stream}", request)
        except ApiError as error:
            if error.code == NOT_REMOVED and NOT_PERMITTED in str(error):
                return False
            if error.code not in (*GONE, NOT_REMOVED):
                raise
    return True


async def _purge(bus: Bus, stream: str, what: dict[str, object]) -> None:
    await bus.request(f"$JS.API.STREAM.PURGE.{stream}", what)
