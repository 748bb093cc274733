"""Artifacts by their id, which is the job's id, the attempt and the index of the image."""

import re

from dreamforge.cli.client.gateway import GatewayClient, Json
from dreamforge.cli.failure import CommandError, Exit

ARTIFACT_ID = re.compile(r"(?P<job_id>[0-9a-f-]{36})-\d+-\d+", re.ASCII)


async def find_artifact(gateway: GatewayClient, artifact_id: str) -> tuple[Json, Json]:
    """The artifact's job and the artifact itself. Errors: CommandError, ProblemError."""
    match = ARTIFACT_ID.fullmatch(artifact_id)
    if match is None:
        hint = "it consists of job id, attempt and image index: dreamforge jobs show JOB lists them"
        raise CommandError(f"{artifact_id!r} is not an artifact id", Exit.REFUSED, hint=hint)
    job = await gateway.job(match["job_id"])
    for artifact in job["artifacts"]:
        if artifact["artifact_id"] == artifact_id:
            return job, artifact
    known = ", ".join(each["artifact_id"] for each in job["artifacts"]) or "none"
    raise CommandError(f"the job has no artifact {artifact_id}", Exit.REFUSED, {"its artifacts": known})
