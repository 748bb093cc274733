"""What the span of an assignment says of the decision."""

from dreamforge.runtime.service.spans import SpanAttributes
from dreamforge.scheduler.planning.plan import PlannedAssignment


def span_of_assignment(assignment: PlannedAssignment) -> SpanAttributes:
    """Its job, its runner, and why it waited; every candidate is in the event."""
    job, decision = assignment.job, assignment.decision
    return {
        "dreamforge.job.id": job.job_id,
        "dreamforge.attempt": job.attempt + 1,
        "dreamforge.runner.id": assignment.runner_id,
        "dreamforge.queue.wait_seconds": decision.waited_seconds,
        "dreamforge.queue.length": decision.queue_length,
        "dreamforge.candidates": decision.candidates_total,
        "dreamforge.promised_seconds": decision.promised_seconds,
        "gen_ai.request.model": job.demand.shape.model_id,
    }
