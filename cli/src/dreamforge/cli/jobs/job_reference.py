"""Which job an argument means: an id, its first or last characters, or `last`."""

import re

from dreamforge.cli.client.gateway import GatewayClient, Json
from dreamforge.cli.failure import CommandError, Exit

HELP = "The job's id, its first or last characters, or `last` for your newest job."
LAST = "last"
JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
# Fewer characters would match by chance; file names of images end with 8.
PART = re.compile(r"[0-9a-f-]{4,35}", re.ASCII)
# Parts are looked for among the newest jobs only.
PAGE_JOBS, PAGES = 200, 5


async def job_id_of(gateway: GatewayClient, text: str) -> str:
    """The id of the job that `text` means. Errors: CommandError when there is none, or several; ProblemError."""
    text = text.strip().lower()
    if JOB_ID.fullmatch(text):
        return text
    if text == LAST:
        return await _newest(gateway)
    if PART.fullmatch(text) is None:
        raise CommandError(f"{text!r} is not the id of a job", Exit.REFUSED, hint=_HINT)
    return await _by_part(gateway, text)


_HINT = "`dreamforge jobs list` shows the ids; their first or last characters, at least 4, or `last` are enough"


async def _newest(gateway: GatewayClient) -> str:
    page = await gateway.read("/v1/jobs", limit=1, tenant=gateway.tenant)
    if not page["jobs"]:
        raise CommandError(f"tenant {gateway.tenant} has no job", Exit.REFUSED)
    return str(page["jobs"][0]["job_id"])


async def _by_part(gateway: GatewayClient, part: str) -> str:
    jobs, cursor = [], None
    for _ in range(PAGES):
        page = await gateway.read("/v1/jobs", limit=PAGE_JOBS, cursor=cursor)
        jobs += [job for job in page["jobs"] if _has(job, part)]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    if len(jobs) == 1:
        return str(jobs[0]["job_id"])
    if not jobs:
        what = f"none of the newest {PAGE_JOBS * PAGES} jobs has an id that begins or ends with {part}"
        raise CommandError(what, Exit.REFUSED, hint=_HINT)
    found = {job["job_id"]: str(job["request"]["prompt"])[:60] for job in jobs[:10]}
    raise CommandError(f"{len(jobs)} jobs have an id that begins or ends with {part}", Exit.REFUSED, found, _HINT)


def _has(job: Json, part: str) -> bool:
    job_id: str = job["job_id"]
    return job_id.startswith(part) or job_id.endswith(part)
