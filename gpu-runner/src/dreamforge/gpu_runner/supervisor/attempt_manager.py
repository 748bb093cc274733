"""Manages the attempts of this runner: each that was taken and has not finished runs in an asyncio task."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from loguru import logger

from dreamforge.contracts.fleet import ActiveAttempt
from dreamforge.gpu_runner import metrics
from dreamforge.gpu_runner.supervisor.admission import RunnerIdentity
from dreamforge.gpu_runner.supervisor.assignment import ReceivedAssignment
from dreamforge.gpu_runner.supervisor.attempt import Attempt, AttemptServices, Cause
from dreamforge.gpu_runner.supervisor.attempt_spans import attempt_span, say_outcome
from dreamforge.runtime.service.telemetry import log_context, trace_id_of

#: How long the server waits before it delivers an assignment again that could not even be refused.
NACK_SECONDS = 1.0
#: A third of the consumer's ack_wait: two renewals may be lost before the server delivers again.
RENEW_SECONDS = 3.0

#: For the last messages of a runner that stops. With NATS unavailable they are not sent, and the lease expires.
CLOSE_SECONDS = 5.0

Key = tuple[str, int]


def count_outcome(outcome: str) -> None:
    """Count an attempt that ended, and why it failed, by the words of `Attempt.run`."""
    word, _, reason = outcome.partition(": ")
    metrics.ATTEMPTS.labels(word).inc()
    if word == "failed":
        metrics.FAILED_ATTEMPTS.labels(reason).inc()


@dataclass(slots=True)
class AttemptManager:
    """Takes assignments and brings each to its end. `on_change` is called when one comes or goes."""

    identity: RunnerIdentity
    services: AttemptServices
    on_change: Callable[[], None]
    _attempts: dict[Key, Attempt] = field(default_factory=dict)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def active(self) -> tuple[ActiveAttempt, ...]:
        """For the heartbeat."""
        return tuple(ActiveAttempt(job_id=job_id, attempt=attempt) for job_id, attempt in self._attempts)

    def take(self, assignment: ReceivedAssignment) -> None:
        """Begin it; one that is here already was delivered twice and is ignored."""
        key = (assignment.job_id, assignment.event.attempt)
        if key in self._attempts:
            return
        attempt = self._attempts[key] = Attempt(assignment, self.services)
        task = asyncio.create_task(self._run_to_end(key, attempt), name=f"attempt {assignment.task_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.on_change()

    def interrupt(self, job_id: str, attempt: int, cause: Cause) -> None:
        """Give one up, if it is here."""
        if (held := self._attempts.get((job_id, attempt))) is not None:
            held.interrupt(cause)

    def fence(self, why: str) -> None:
        """Take nothing more, and give back what is here: another runner can have it at once."""
        self.identity = replace(self.identity, draining=True)
        for attempt in self._attempts.values():
            attempt.interrupt(Cause.FENCED, why)

    async def drain(self, seconds: float) -> None:
        """Take nothing more, let running attempts finish for a while, then give the rest back."""
        self.identity = replace(self.identity, draining=True)
        if self._tasks:
            logger.info("waiting up to {:g} s for {} running attempts", seconds, len(self._tasks))
            await asyncio.wait(self._tasks, timeout=seconds)
        for attempt in self._attempts.values():
            attempt.interrupt(Cause.DRAINED)
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
            for task in left:
                logger.error("{} is left to its lease: the log is unavailable", task.get_name())
                task.cancel()

    async def renew(self) -> None:
        """Tell the server forever that these attempts are being worked on."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            for attempt in tuple(self._attempts.values()):
                try:
                    await attempt.assignment.delivery.in_progress()
                except Exception as error:
                    # NATS is unavailable or the message is settled; a delivery too many is harmless (see `take`).
                    logger.debug("renewing {}: {}", attempt.assignment.task_id, error)

    async def _run_to_end(self, key: Key, attempt: Attempt) -> None:
        assignment = attempt.assignment
        ids = {"job_id": assignment.job_id, "trace_id": trace_id_of(assignment.traceparent)}
        with log_context(**ids), attempt_span(assignment) as span:
            try:
                outcome = await self._run(attempt)
                say_outcome(span, outcome)
                logger.info("attempt {}: {}", assignment.event.attempt, outcome)
                count_outcome(outcome)
                await assignment.delivery.ack()
            except Exception:
                logger.exception("attempt {} could not be ended; it will be delivered again", assignment.task_id)
                await assignment.delivery.nack(delay=NACK_SECONDS)
            finally:
                del self._attempts[key]
                self.on_change()

    async def _run(self, attempt: Attempt) -> str:
        try:
            return await attempt.run(self.identity)
        except Exception as error:
            logger.exception("attempt {} met an unforeseen error", attempt.assignment.task_id)
            return await attempt.fail(f"{type(error).__name__}: {error}")
