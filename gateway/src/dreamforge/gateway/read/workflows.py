"""Jobs that were requested as workflows of ComfyUI. Pure SQL values."""

from collections.abc import Collection

from sqlalchemy import func, select

from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.tables import jobs
from dreamforge.gateway.read.queries import OPEN, SHOWN, Statement, latest_step, shown_artifacts


def workflow_jobs(
    tenant: str,
    *,
    statuses: Collection[Status],
    limit: int,
    offset: int = 0,
    job_id: str | None = None,
    client_id: str | None = None,
) -> Statement:
    """A tenant's workflows with their visible artifacts, newest first; of one job, or of one client."""
    wanted = [jobs.c.workflow.is_not(None), SHOWN, jobs.c.tenant == tenant, jobs.c.status.in_(statuses)]
    if job_id is not None:
        wanted.append(jobs.c.job_id == job_id)
    if client_id is not None:
        wanted.append(jobs.c.workflow["client_id"].astext == client_id)
    newest = (jobs.c.requested_at.desc(), jobs.c.job_id.desc())
    return select(jobs, latest_step(), shown_artifacts()).where(*wanted).order_by(*newest).limit(limit).offset(offset)


def open_workflows(tenant: str) -> Statement:
    """How many workflows of a tenant have not ended."""
    wanted = (jobs.c.workflow.is_not(None), SHOWN, jobs.c.tenant == tenant, jobs.c.status.in_(OPEN))
    return select(func.count().label("number")).select_from(jobs).where(*wanted)
