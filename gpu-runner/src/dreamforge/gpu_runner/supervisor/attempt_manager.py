"""What is in our hands: every attempt taken and not yet finished, each in a task of its own."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from loguru import logger

from dreamforge.contracts.fleet import ActiveAttempt
from dreamforge.gpu_runner import metrics
from dreamforge.gpu_runner.supervisor.admission import RunnerIdentity
from dreamforge.gpu_runner.supervisor.assignment import ReceivedAssignment
from dreamforge.gpu_runner.supervisor.attempt import Attempt, AttemptServices, Cause
from dreamforge.runtime.service.telemetry import log_context, trace_id_of

#: How long the server waits before it delivers an assignment again that we could not even refuse.
NACK_SECONDS = 1.0
#: A third of the consumer's ack_wait: two renewals may be lost before the server delivers again.
RENEW_SECONDS = 3.0

#: For what must still be said when we leave. With NATS away it cannot be, and the lease says it for us.
LAST_WORDS_SECONDS = 5.0

Key = tuple[str, int]


@dataclass(slots=True)
class AttemptManager:
    """Takes assignments and brings each to its end. `on_change` is called when one comes or goes."""

    me: RunnerIdentity
    tools: AttemptServices
    on_change: Callable[[], None]
    _attempts: dict[Key, Attempt] = field(default_factory=dict)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def active(self) -> tuple[ActiveAttempt, ...]:
        """For the heartbeat."""
        return tuple(ActiveAttempt(job_id=job_id, attempt=attempt) for job_id, attempt in self._attempts)

    def take(self, assignment: ReceivedAssignment) -> None:
        """Begin with it; one that we hold already was delivered twice and is let go."""
        key = (assignment.job_id, assignment.event.attempt)
        if key in self._attempts:
            return
        attempt = self._attempts[key] = Attempt(assignment, self.tools)
        task = asyncio.create_task(self._see_through(key, attempt), name=f"attempt {assignment.task_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.on_change()

    def interrupt(self, job_id: str, attempt: int, cause: Cause) -> None:
        """Give one up, if it is here."""
        if (held := self._attempts.get((job_id, attempt))) is not None:
            held.interrupt(cause)

    async def drain(self, seconds: float) -> None:
        """Take nothing more, let what runs finish for a while, then hand the rest back."""
        self.me = replace(self.me, draining=True)
        if self._tasks:
            logger.info("waiting up to {:g} s for {} running attempts", seconds, len(self._tasks))
            await asyncio.wait(self._tasks, timeout=seconds)
        for attempt in self._attempts.values():
            attempt.interrupt(Cause.DRAINED)
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=LAST_WORDS_SECONDS)
            for task in left:
                logger.error("{} is left to its lease: the log cannot be told", task.get_name())
                task.cancel()

    async def renew(self) -> None:
        """Tell the server for ever that what we hold is being worked on."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            for attempt in tuple(self._attempts.values()):
                try:
                    await attempt.assignment.delivery.in_progress()
                except Exception as error:
                    # NATS is away or the message is settled; a delivery too many is harmless (see `take`).
                    logger.debug("renewing {}: {}", attempt.assignment.task_id, error)

    async def _see_through(self, key: Key, attempt: Attempt) -> None:
        assignment = attempt.assignment
        with log_context(job_id=assignment.job_id, trace_id=trace_id_of(assignment.traceparent)):
            try:
                outcome = await self._run(attempt)
                logger.info("attempt {}: {}", assignment.event.attempt, outcome)
                metrics.ATTEMPTS.labels(outcome.split(":")[0]).inc()
                await assignment.delivery.ack()
            except Exception:
                logger.exception("attempt {} could not be ended; it will be delivered again", assignment.task_id)
                await assignment.delivery.nack(delay=NACK_SECONDS)
            finally:
                del self._attempts[key]
                self.on_change()

    async def _run(self, attempt: Attempt) -> str:
        try:
            return await attempt.run(self.me)
        except Exception as error:
            logger.exception("attempt {} met an error nobody foresaw", attempt.assignment.task_id)
            return await attempt.fail(f"{type(error).__name__}: {error}")
