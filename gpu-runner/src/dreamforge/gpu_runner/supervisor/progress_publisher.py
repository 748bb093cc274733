"""Publishes the progress of attempts."""

from dataclasses import dataclass

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.events import StepProgressed
from dreamforge.contracts.log.envelope import seal
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gpu_runner.protocol.messages import StepDone
from dreamforge.gpu_runner.supervisor.assignment import ReceivedAssignment
from dreamforge.gpu_runner.supervisor.progress import ProgressEstimate
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.bus import Bus


@dataclass(slots=True)
class ProgressPublisher:
    """The progress of every attempt of this runner goes through here."""

    bus: Bus
    source: str

    def of(
        self, assignment: ReceivedAssignment, request: RenderRequest, to_render: tuple[int, ...]
    ) -> "AttemptProgress":
        """The publisher for one attempt, which renders these images of the request."""
        estimate = ProgressEstimate(assignment.event.attempt, request.images, to_render)
        return AttemptProgress(self, assignment, request, estimate)


@dataclass(slots=True)
class AttemptProgress:
    """Progress of one attempt, on its job's step subject."""

    publisher: ProgressPublisher
    assignment: ReceivedAssignment
    request: RenderRequest
    estimate: ProgressEstimate

    async def publish(self, step: StepDone) -> float:
        """Publish without waiting for an ack; a step that cannot be published is lost, by design. Seconds to go."""
        event = self.estimate.event(step, clock.now())
        await self._publish(event)
        return event.eta_seconds

    async def loading(self, model_id: str) -> None:
        """Say that a model is being read before the first step."""
        await self._publish(self.estimate.loading(model_id, self.request.steps, clock.now()))

    async def _publish(self, event: StepProgressed) -> None:
        envelope = seal(
            event.model_copy(update={"written_by": self.assignment.event.runner_id}),
            entity_id=self.assignment.job_id,
            event_id=ids.new_id(),
            source=self.publisher.source,
            traceparent=self.assignment.traceparent,
        )
        try:
            await self.publisher.bus.publish(envelope.subject, envelope.data, envelope.headers)
        except DependencyAway:
            return
