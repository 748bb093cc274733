"""Artifacts by their id, which is the job's id, the attempt and the index of the image."""

import re

from dreamforge.cli.client.gateway import GatewayClient, Json
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.jobs.job_reference import job_id_of

ARTIFACT_ID = re.compile(r"(?P<job_id>[0-9a-f-]{36})-\d+-\d+", re.ASCII)


async def find_artifact(gateway: GatewayClient, artifact_id: str) -> tuple[Json, Json]:
    """The artifact's job and the artifact; a job stands for its only image. Errors: CommandError, ProblemError."""
    match = ARTIFACT_ID.fullmatch(artifact_id)
    if match is None:
        return _only_one(await gateway.job(await job_id_of(gateway, artifact_id)))
    job = await gateway.job(match["job_id"])
    for artifact in job["artifacts"]:
        if artifact["artifact_id"] == artifact_id:
            return job, artifact
    known = ", ".join(each["artifact_id"] for each in job["artifacts"]) or "none"
    raise CommandError(f"the job has no artifact {artifact_id}", Exit.REFUSED, {"its artifacts": known})


def _only_one(job: Json) -> tuple[Json, Json]:
    artifacts = job["artifacts"]
    if len(artifacts) != 1:
        found = ", ".join(each["artifact_id"] for each in artifacts) or "none"
        raise CommandError(f"the job has {len(artifacts)} images", Exit.REFUSED, {"its artifacts": found})
    return job, artifacts[0]
