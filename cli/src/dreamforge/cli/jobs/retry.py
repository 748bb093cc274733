"""The recorded request of a job, to be submitted again: what `dreamforge jobs retry` sends."""

from contextlib import aclosing

from dreamforge.cli.client.gateway import GatewayClient, Json
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.next_command import next_command
from dreamforge.client.events import event_of
from dreamforge.contracts.events import JobRequested
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.request.resolve import inputs_of

RETRIED = frozenset({Status.FAILED, Status.CANCELLED})


async def submission_again(gateway: GatewayClient, job_id: str) -> Json:
    """The body that requests a failed or cancelled job again: same pixels, priority and deadlines.

    Errors: CommandError for a job that has succeeded or has not ended, ProblemError.
    """
    job = await gateway.job(job_id)
    if job["status"] not in RETRIED:
        raise _refusal(job)
    recorded = await _requested(gateway, job_id)
    body = inputs_of(recorded.request) | {"priority": job["priority"]}
    deadlines = recorded.deadlines.model_dump(mode="json", exclude_none=True) if recorded.deadlines else None
    return body | ({"deadlines": deadlines} if deadlines else {})


async def _requested(gateway: GatewayClient, job_id: str) -> JobRequested:
    """The first event of a job."""
    async with aclosing(gateway.events(job_id)) as messages:
        async for message in messages:
            if isinstance(event := event_of(message), JobRequested):
                return event
    raise CommandError(f"the log has no request of job {job_id}", Exit.FAILED)


def _refusal(job: Json) -> CommandError:
    job_id = job["job_id"]
    if job["status"] == Status.SUCCEEDED:
        first = job["artifacts"][0]["artifact_id"] if job["artifacts"] else "ARTIFACT"
        hint = f"{next_command(f'rerun {first}')} renders an image of it again"
        return CommandError("it has succeeded, so there is nothing to retry", Exit.REFUSED, {"job": job_id}, hint)
    hint = f"{next_command(f'jobs watch {job_id}')} follows it (jobs cancel stops it)"
    what = f"it is {job['status']}: a job can be retried when it has failed or was cancelled"
    return CommandError(what, Exit.REFUSED, {"job": job_id}, hint)
