"""Follows the log for what must stop a running attempt: a cancel, or a failure declared by somebody else."""

import asyncio
from dataclasses import dataclass, field

from dreamforge.contracts import subjects
from dreamforge.contracts.events import AttemptFailed
from dreamforge.gpu_runner.attempt import Cause
from dreamforge.gpu_runner.hands import Hands
from dreamforge.runtime.bus import Bus
from dreamforge.runtime.follow import Follower, LogMessage

FAILURES = f"forge.jobs.*.*.{AttemptFailed.TOKEN}"


@dataclass(slots=True)
class Interrupts:
    """Follows stored events and not live messages: a request that the log refused must not stop anything."""

    bus: Bus
    hands: Hands
    #: Set once nothing can be missed any more: assignments may be taken from then on.
    following: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Follow until cancelled; after a break from where it was, so that no cancel is missed."""
        filters = (subjects.CANCEL_REQUESTS, FAILURES)
        follower = Follower(self.bus, "JOBS", filters=filters, new_only=True)
        async for batch in follower.batches():
            for message in batch.messages:
                self._apply(message)
            self.following.set()

    def _apply(self, message: LogMessage) -> None:
        # The subject says it all: forge.jobs.{job_id}.{attempt}.{token}.
        _, _, job_id, attempt, token = message.subject.split(".", 4)
        if attempt.isdecimal():
            # Our own AttemptFailed comes by as well, for an attempt that is ending anyway.
            cause = Cause.SUPERSEDED if token == AttemptFailed.TOKEN else Cause.CANCELLED
            self.hands.interrupt(job_id, int(attempt), cause)
