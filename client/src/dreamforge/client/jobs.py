"""Jobs: create, read, follow, wait, control."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar, Unpack

from pydantic import BaseModel

from dreamforge.client.downloads import FileSink, picture_download
from dreamforge.client.errors import JobNotSucceeded
from dreamforge.client.events import StreamedEvent, streamed_event_of
from dreamforge.client.machine import Deadline
from dreamforge.client.parameters import JobParameters
from dreamforge.client.reading import PAGE_ITEMS, body_of, pages_of, path_of, read_as, within
from dreamforge.client.session import GatewaySession
from dreamforge.contracts.file_names import image_file_name
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.replies import Accepted, JobReply, JobSummary, WhyReply
from dreamforge.contracts.request.render_request import Deadlines
from dreamforge.contracts.tenant_replies import ErasureAccepted

Reply = TypeVar("Reply", bound=BaseModel)


class AsyncJobs:
    """Every call takes the id of a job; `create` returns an `AsyncJob`, whose calls know it."""

    def __init__(self, session: GatewaySession) -> None:
        self._session = session

    async def create(
        self,
        *,
        priority: int | None = None,
        deadlines: Deadlines | None = None,
        idempotency_key: str | None = None,
        **parameters: Unpack[JobParameters],
    ) -> "AsyncJob":
        """Request pictures; the job is in the log, durably, when this returns.

        `idempotency_key`: the same key and request are the same job, forever; without one an own key makes retries of
        this call safe. Errors: ProblemError (its `places` say which parameter), GatewayUnavailable.
        """
        body = body_of({"priority": priority, "deadlines": deadlines, **parameters})
        document = await self._session.create("/v1/jobs", body, idempotency_key)
        return AsyncJob(self, read_as(Accepted, document, "POST /v1/jobs").job_id)

    async def get(self, job_id: str) -> JobReply:
        """A job with its attempts, pictures and warnings, at least as new as the last write of this client."""
        return await self._read(JobReply, path_of("jobs", job_id))

    def list(
        self, *, status: Status | None = None, model_id: str | None = None, tenant: str | None = None
    ) -> AsyncGenerator[JobSummary, None]:
        """Jobs, newest first; more are read as they are asked for."""
        query = {"status": status, "model_id": model_id, "tenant": tenant}
        return pages_of(self._session, JobSummary, "/v1/jobs", "jobs", limit=PAGE_ITEMS, **query)

    async def watch(self, job_id: str, timeout: float | None = None) -> AsyncGenerator[StreamedEvent, None]:
        """Every event from the first one to the last, live; lost connections are resumed without gap or repeat.

        `timeout` is in seconds. Errors: WaitTimeout, ProblemError, GatewayUnavailable.
        """
        messages = self._session.events(path_of("jobs", job_id, "events"), 1, Deadline.after(timeout))
        async with aclosing(within(messages, f"job {job_id}", timeout)) as timed:
            async for message in timed:
                yield streamed_event_of(message)

    async def watch_all(
        self, *, only: Sequence[str] = (), last_id: str = "", timeout: float | None = None
    ) -> AsyncGenerator[StreamedEvent, None]:
        """What happens to all jobs of the tenant, on one connection: from now on, or after the event of an id.

        `only`: short names, for example `succeeded` and `failed`; none: all, and the steps of jobs that run. It does
        not end by itself; lost connections are resumed without gap or repeat of any event but steps.
        `timeout` is in seconds. Errors: WaitTimeout, ProblemError, GatewayUnavailable.
        """
        path = "/v1/events" + (f"?only={','.join(only)}" if only else "")
        messages = self._session.events(path, None, Deadline.after(timeout), last_id)
        async with aclosing(within(messages, "all jobs", timeout)) as timed:
            async for message in timed:
                yield streamed_event_of(message)

    async def wait(self, job_id: str, timeout: float | None = None, *, check: bool = True) -> JobReply:
        """The job when it has ended. `timeout` is in seconds; the job goes on after it.

        Errors: WaitTimeout; JobNotSucceeded for one that failed or was cancelled, unless `check` is false; as `watch`.
        """
        async with aclosing(self.watch(job_id, timeout)) as events:
            async for _ in events:
                pass
        job = await self.get(job_id)
        if check and job.status is not Status.SUCCEEDED:
            raise JobNotSucceeded(job)
        return job

    async def download(self, job_id: str, folder: Path | str, timeout: float | None = None) -> tuple[Path, ...]:
        """Wait for a job and save its pictures, each checked against its SHA-256; their files, named by the prompt.

        Errors: DamagedDownload, OSError, and as `wait`.
        """
        job = await self.wait(job_id, timeout)
        paths = []
        for each in job.artifacts:
            name = image_file_name(job.request.prompt, job.job_id, each.index, each.content_type)
            sink = FileSink(Path(folder) / name, each.sha256)
            paths.append(await picture_download(self._session, each.url, sink, each.sha256).run())
        return tuple(paths)

    async def cancel(self, job_id: str) -> Accepted:
        """Stop a job, a running one within one step. Repeating it changes nothing; a finished job does not change."""
        return await self._command(job_id, "cancel")

    async def hold(self, job_id: str) -> Accepted:
        """Keep a job from being assigned until it is released."""
        return await self._command(job_id, "hold")

    async def release(self, job_id: str) -> Accepted:
        """Let a held job be assigned again."""
        return await self._command(job_id, "release")

    async def change_priority(self, job_id: str, priority: int) -> Accepted:
        """Give a waiting job another priority, 0 to 9."""
        return await self._command(job_id, "priority", {"priority": priority})

    async def why(self, job_id: str) -> WhyReply:
        """Why a job waits, or why its runner was chosen."""
        return await self._read(WhyReply, path_of("jobs", job_id, "why"))

    async def delete(self, job_id: str) -> ErasureAccepted:
        """Hide a job and its pictures; they are erased for good at `erase_at`, unless `undelete` undoes it before."""
        path = path_of("jobs", job_id)
        return read_as(ErasureAccepted, await self._session.write("DELETE", path), f"DELETE {path}")

    async def undelete(self, job_id: str) -> Accepted:
        """Undo `delete`."""
        return await self._command(job_id, "undelete")

    async def _command(self, job_id: str, name: str, body: object = None) -> Accepted:
        path = path_of("jobs", job_id, name)
        return read_as(Accepted, await self._session.write("POST", path, body, repeatable=True), f"POST {path}")

    async def _read(self, kind: type[Reply], path: str) -> Reply:
        return read_as(kind, await self._session.read(path), f"GET {path}")


class AsyncJob:
    """A job that was requested."""

    def __init__(self, jobs: AsyncJobs, job_id: str) -> None:
        self._jobs = jobs
        self.id = job_id

    async def get(self) -> JobReply:
        """As `AsyncJobs.get`."""
        return await self._jobs.get(self.id)

    def events(self, timeout: float | None = None) -> AsyncGenerator[StreamedEvent, None]:
        """As `AsyncJobs.watch`."""
        return self._jobs.watch(self.id, timeout)

    async def wait(self, timeout: float | None = None, *, check: bool = True) -> JobReply:
        """As `AsyncJobs.wait`."""
        return await self._jobs.wait(self.id, timeout, check=check)

    async def download(self, folder: Path | str, timeout: float | None = None) -> tuple[Path, ...]:
        """As `AsyncJobs.download`."""
        return await self._jobs.download(self.id, folder, timeout)

    async def cancel(self) -> Accepted:
        """As `AsyncJobs.cancel`."""
        return await self._jobs.cancel(self.id)

    async def why(self) -> WhyReply:
        """As `AsyncJobs.why`."""
        return await self._jobs.why(self.id)
