"""The spans of one attempt: itself, and what its child did in it, by the times that the child measured.

The child exports nothing: it has no network. What it says of itself becomes spans here.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from dreamforge.contracts.log.streams import JOBS, runner_consumer
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gpu_runner.protocol.messages import Image, ModelLoaded, StepDone
from dreamforge.gpu_runner.supervisor.assignment import ReceivedAssignment
from dreamforge.runtime import clock
from dreamforge.runtime.service import tracing
from dreamforge.runtime.service.spans import NO_SPAN, SpanAttributes, TraceSpan


def attempt_span(assignment: ReceivedAssignment) -> AbstractContextManager[TraceSpan]:
    """An attempt from its delivery to its end, by the conventions for messaging.

    Its parent is the request, as that of the attempts before it.
    """
    if not tracing.records(assignment.traceparent):
        return NO_SPAN
    event = assignment.event
    attributes: SpanAttributes = {
        "messaging.system": "nats",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": JOBS.name,
        "messaging.consumer.group.name": runner_consumer(event.runner_id),
        "dreamforge.job.id": assignment.job_id,
        "dreamforge.attempt": event.attempt,
        "dreamforge.runner.id": event.runner_id,
        "dreamforge.delivered_again": not assignment.is_first,
    }
    return tracing.span(f"process {JOBS.name}", kind="consumer", parent=assignment.traceparent, attributes=attributes)


def say_outcome(span: TraceSpan, outcome: str) -> None:
    """How an attempt ended, in the words of `Attempt.run`: the reason of one that failed is its error."""
    word, _, reason = outcome.partition(": ")
    span.set({"dreamforge.outcome": word})
    if word == "failed":
        span.fail(reason)


@dataclass(slots=True)
class _Run:
    """Images that are rendered together."""

    began: float
    steps: int
    size: int
    is_recorded: bool = False


@dataclass(slots=True)
class AttemptSpans:
    """Loads, renders and encodings of one attempt, each recorded when the child says that it is over."""

    request: RenderRequest
    #: The images that it renders, in order.
    images: tuple[int, ...]
    _runs: dict[int, _Run] = field(default_factory=dict)

    def loaded(self, message: ModelLoaded) -> None:
        """A model was read for it."""
        attributes: SpanAttributes = {
            "gen_ai.request.model": message.model_id,
            "dreamforge.model.bytes": message.bytes,
        }
        tracing.record(f"load {message.model_id}", seconds=message.seconds, attributes=attributes)

    def step(self, step: StepDone) -> None:
        """A step of a run is over: it began so long ago. One that is begun again in halves replaces what was known."""
        if not tracing.current_ids():
            return
        place = self.images.index(step.image_index)
        run = _Run(clock.monotonic_seconds() - step.elapsed_seconds, step.steps, step.run_size)
        self._runs.update(dict.fromkeys(self.images[place : place + step.together], run))

    def image(self, image: Image) -> None:
        """An image has come: it was encoded just now, and rendered before, in one span with those of its run."""
        if not tracing.current_ids():
            return
        timings, now = image.timings, clock.monotonic_seconds()
        run = self._runs.get(image.image_index)
        if run is None:  # a renderer that says no steps
            run = _Run(now - timings.encode_seconds - timings.render_seconds, 0, 1)
        if not run.is_recorded:
            run.is_recorded = True
            self._rendered(run, image, now)
        attributes: SpanAttributes = {
            "dreamforge.image.index": image.image_index,
            "dreamforge.image.bytes": len(image.body),
            "dreamforge.image.content_type": image.content_type,
        }
        tracing.record("encode image", seconds=timings.encode_seconds, attributes=attributes)

    def _rendered(self, run: _Run, image: Image, now: float) -> None:
        """By the conventions for generative AI; no prompt, which is its owner's."""
        seconds = image.timings.render_seconds * run.size
        request = self.request
        attributes: SpanAttributes = {
            "gen_ai.operation.name": "generate_content",
            "gen_ai.provider.name": "dreamforge",
            "gen_ai.request.model": request.model_id,
            "gen_ai.output.type": "image" if request.frames is None else "video",
            "gen_ai.request.choice.count": sum(each is run for each in self._runs.values()) or 1,
            "gen_ai.request.seed": image.recipe.seed,
            "dreamforge.render.steps": run.steps or request.steps,
            "dreamforge.render.width_px": request.width_px,
            "dreamforge.render.height_px": request.height_px,
            "dreamforge.render.batch_images": run.size,
        }
        ago = max(0.0, now - run.began - seconds)
        tracing.record(
            f"generate_content {request.model_id}", seconds=seconds, ended_seconds_ago=ago, attributes=attributes
        )
