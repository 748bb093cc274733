"""An assignment as it arrived: the event, and the message that must be acknowledged for it."""

from dataclasses import dataclass
from typing import Protocol

from dreamforge.contracts.events import JobAssigned


class Delivery(Protocol):
    """The message itself: how it is acknowledged."""

    async def ack(self) -> None:
        """Acknowledge: everything that follows from it is in the log."""
        ...

    async def nack(self, delay: float | None = None) -> None:
        """Deliver it again, `delay` seconds from now."""
        ...

    async def in_progress(self) -> None:
        """It is being worked on: do not deliver it again yet."""
        ...


@dataclass(frozen=True, slots=True)
class ReceivedAssignment:
    """One JobAssigned for this runner."""

    job_id: str
    event: JobAssigned
    delivery: Delivery
    traceparent: str = ""
    sequence: int = 0
    """Its place in the log: the job's version, as long as nothing came after it."""
    is_first: bool = False
    """It was never delivered before, so no attempt here can have begun it."""

    @property
    def task_id(self) -> str:
        """What the child calls it: unique, since a job has each attempt once."""
        return f"{self.job_id}/{self.event.attempt}"
