"""Batches: several jobs that are requested, followed, cancelled and downloaded as one."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Literal

from pydantic import JsonValue

from dreamforge.client.downloads import Download, FileSink
from dreamforge.client.events import StreamedEvent, streamed_event_of
from dreamforge.client.machine import Deadline
from dreamforge.client.parameters import BatchParameters
from dreamforge.client.reading import PAGE_ITEMS, body_of, pages_of, path_of, read_as, within
from dreamforge.client.session import GatewaySession
from dreamforge.contracts.batch_replies import BatchAccepted, BatchReply, BatchSummary


class AsyncBatches:
    """Every call takes the id of a batch; `create` returns an `AsyncJobBatch`, whose calls know it."""

    def __init__(self, session: GatewaySession) -> None:
        self._session = session

    async def create(
        self,
        *,
        request: BatchParameters | None = None,
        template: Mapping[str, str] | None = None,
        grid: Mapping[str, Sequence[JsonValue]] | None = None,
        samples: int | None = None,
        template_seed: int | None = None,
        seeds: Literal["same", "different"] | None = None,
        idempotency_key: str | None = None,
    ) -> "AsyncJobBatch":
        """Request a job for each combination of the templates and the grid; all of them are in the log, or none.

        `request`: what all jobs have in common. `template`: `prompt` and `negative_prompt` as templates
        (`a {red|blue} fox`). `grid`: values of any parameters. `samples`: so many random prompts of the templates.
        Errors: as `AsyncJobs.create`.
        """
        body: dict[str, object] = {
            "request": body_of(dict(request or {})),
            "template": template,
            "grid": grid,
            "samples": samples,
        }
        body |= {"template_seed": template_seed, "seeds": seeds}
        document = await self._session.create("/v1/batches", body_of(body), idempotency_key)
        return AsyncJobBatch(self, read_as(BatchAccepted, document, "POST /v1/batches").batch_id)

    async def get(self, batch_id: str) -> BatchReply:
        """A batch with its jobs and their pictures, at least as new as the last write of this client."""
        path = path_of("batches", batch_id)
        return read_as(BatchReply, await self._session.read(path), f"GET {path}")

    def list(self, *, tenant: str | None = None) -> AsyncGenerator[BatchSummary, None]:
        """Batches, newest first; more are read as they are asked for."""
        return pages_of(self._session, BatchSummary, "/v1/batches", "batches", limit=PAGE_ITEMS, tenant=tenant)

    async def watch(self, batch_id: str, timeout: float | None = None) -> AsyncGenerator[StreamedEvent, None]:
        """Every event of every job, until the last job has ended; as `AsyncJobs.watch`."""
        deadline = Deadline.after(timeout)
        jobs = (await self.get(batch_id)).jobs
        messages = self._session.events(path_of("batches", batch_id, "events"), jobs, deadline)
        async with aclosing(within(messages, f"batch {batch_id}", timeout)) as timed:
            async for message in timed:
                yield streamed_event_of(message)

    async def wait(self, batch_id: str, timeout: float | None = None) -> BatchReply:
        """The batch when all its jobs have ended, whatever became of them. Errors: as `watch`."""
        async with aclosing(self.watch(batch_id, timeout)) as events:
            async for _ in events:
                pass
        return await self.get(batch_id)

    async def cancel(self, batch_id: str) -> BatchAccepted:
        """Stop all jobs that have not ended. Repeating it changes nothing."""
        path = path_of("batches", batch_id, "cancel")
        return read_as(BatchAccepted, await self._session.write("POST", path, repeatable=True), f"POST {path}")

    async def download(self, batch_id: str, path: Path | str) -> Path:
        """Save the finished pictures as one zip file, with `batch.json`, which says what each is.

        A zip file is made while it is sent, so it has no hash, and begins anew after a lost connection.
        Errors: OSError, and as `get`.
        """
        url = self._session.connection.base_url + path_of("batches", batch_id, "images.zip")
        return await Download(self._session, url, FileSink(Path(path))).run()


class AsyncJobBatch:
    """A batch that was requested."""

    def __init__(self, batches: AsyncBatches, batch_id: str) -> None:
        self._batches = batches
        self.id = batch_id

    async def get(self) -> BatchReply:
        """As `AsyncBatches.get`."""
        return await self._batches.get(self.id)

    def events(self, timeout: float | None = None) -> AsyncGenerator[StreamedEvent, None]:
        """As `AsyncBatches.watch`."""
        return self._batches.watch(self.id, timeout)

    async def wait(self, timeout: float | None = None) -> BatchReply:
        """As `AsyncBatches.wait`."""
        return await self._batches.wait(self.id, timeout)

    async def cancel(self) -> BatchAccepted:
        """As `AsyncBatches.cancel`."""
        return await self._batches.cancel(self.id)

    async def download(self, path: Path | str) -> Path:
        """As `AsyncBatches.download`."""
        return await self._batches.download(self.id, path)
