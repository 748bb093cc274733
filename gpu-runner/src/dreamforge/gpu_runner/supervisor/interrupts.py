"""Follows the log for what must stop a running attempt: a cancel, or a failure that another process declared."""

import asyncio
from dataclasses import dataclass, field

from dreamforge.contracts.events import AttemptFailed, CancelRequested
from dreamforge.contracts.log import subjects
from dreamforge.gpu_runner.supervisor.attempt import Cause
from dreamforge.gpu_runner.supervisor.attempt_manager import AttemptManager
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import Follower
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.log.readable import readable


@dataclass(slots=True)
class Interrupts:
    """Follows stored events and not live messages: a request that the log refused must not stop anything."""

    bus: Bus
    attempts: AttemptManager
    #: Set once nothing can be missed any more: assignments may be taken from then on.
    following: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Follow until cancelled; after a break from where it was, so that no cancel is missed."""
        filters = (subjects.CANCEL_REQUESTS, subjects.ATTEMPT_FAILURES)
        follower = Follower(self.bus, "JOBS", filters=filters, new_only=True)
        async for batch in follower.batches():
            for message in batch.messages:
                self._apply(message)
            self.following.set()

    def _apply(self, message: LogMessage) -> None:
        # A message that cannot be read is no reason to stop anything.
        if (recorded := readable(message)) is None:
            return
        event = recorded.event
        # Our own AttemptFailed comes by as well, for an attempt that is ending anyway.
        if isinstance(event, AttemptFailed):
            self.attempts.interrupt(recorded.entity_id, event.attempt, Cause.SUPERSEDED)
        elif isinstance(event, CancelRequested):
            self.attempts.interrupt(recorded.entity_id, event.attempt, Cause.CANCELLED)
