"""`Client`: the API for programs without asyncio."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Literal, Self, Unpack

import httpx
from pydantic import JsonValue

from dreamforge.client.async_client import AsyncApi
from dreamforge.client.batches import AsyncBatches, AsyncJobBatch
from dreamforge.client.blocking import Blocking, blocking, iterating
from dreamforge.client.connection import ANSWER_SECONDS, Connection
from dreamforge.client.jobs import AsyncJob, AsyncJobs
from dreamforge.client.models import AsyncModels
from dreamforge.client.parameters import BatchParameters, JobParameters
from dreamforge.client.pictures import AsyncArtifacts, AsyncUploads
from dreamforge.client.retries import Retries
from dreamforge.client.session import GatewaySession
from dreamforge.client.transport import BlockingTransport, run_now
from dreamforge.contracts.request.render_request import Deadlines


class Job(Blocking[AsyncJob]):
    """A job that was requested."""

    @property
    def id(self) -> str:
        """The id of the job."""
        return self._api.id

    get = blocking(AsyncJob.get)
    events = iterating(AsyncJob.events)
    wait = blocking(AsyncJob.wait)
    download = blocking(AsyncJob.download)
    cancel = blocking(AsyncJob.cancel)
    why = blocking(AsyncJob.why)


class Jobs(Blocking[AsyncJobs]):
    """Every call takes the id of a job; `create` returns a `Job`, whose calls know it."""

    def create(
        self,
        *,
        priority: int | None = None,
        deadlines: Deadlines | None = None,
        idempotency_key: str | None = None,
        **parameters: Unpack[JobParameters],
    ) -> Job:
        """As `AsyncJobs.create`."""
        created = self._api.create(
            priority=priority, deadlines=deadlines, idempotency_key=idempotency_key, **parameters
        )
        return Job(run_now(created))

    get = blocking(AsyncJobs.get)
    list = iterating(AsyncJobs.list)
    watch = iterating(AsyncJobs.watch)
    watch_all = iterating(AsyncJobs.watch_all)
    wait = blocking(AsyncJobs.wait)
    download = blocking(AsyncJobs.download)
    cancel = blocking(AsyncJobs.cancel)
    hold = blocking(AsyncJobs.hold)
    release = blocking(AsyncJobs.release)
    change_priority = blocking(AsyncJobs.change_priority)
    why = blocking(AsyncJobs.why)
    delete = blocking(AsyncJobs.delete)
    undelete = blocking(AsyncJobs.undelete)


class JobBatch(Blocking[AsyncJobBatch]):
    """A batch that was requested."""

    @property
    def id(self) -> str:
        """The id of the batch."""
        return self._api.id

    get = blocking(AsyncJobBatch.get)
    events = iterating(AsyncJobBatch.events)
    wait = blocking(AsyncJobBatch.wait)
    cancel = blocking(AsyncJobBatch.cancel)
    download = blocking(AsyncJobBatch.download)


class Batches(Blocking[AsyncBatches]):
    """Every call takes the id of a batch; `create` returns a `JobBatch`, whose calls know it."""

    def create(
        self,
        *,
        request: BatchParameters | None = None,
        template: Mapping[str, str] | None = None,
        grid: Mapping[str, Sequence[JsonValue]] | None = None,
        samples: int | None = None,
        template_seed: int | None = None,
        seeds: Literal["same", "different"] | None = None,
        idempotency_key: str | None = None,
    ) -> JobBatch:
        """As `AsyncBatches.create`."""
        created = self._api.create(
            request=request,
            template=template,
            grid=grid,
            samples=samples,
            template_seed=template_seed,
            seeds=seeds,
            idempotency_key=idempotency_key,
        )
        return JobBatch(run_now(created))

    get = blocking(AsyncBatches.get)
    list = iterating(AsyncBatches.list)
    watch = iterating(AsyncBatches.watch)
    wait = blocking(AsyncBatches.wait)
    cancel = blocking(AsyncBatches.cancel)
    download = blocking(AsyncBatches.download)


class Artifacts(Blocking[AsyncArtifacts]):
    """Rendered pictures, by what a job says of them or by their id."""

    read = blocking(AsyncArtifacts.read)
    download = blocking(AsyncArtifacts.download)
    delete = blocking(AsyncArtifacts.delete)


class PictureUploads(Blocking[AsyncUploads]):
    """Pictures that a request names by their SHA-256: `init_image`, `mask_image`, the image of `control`."""

    create = blocking(AsyncUploads.create)
    delete = blocking(AsyncUploads.delete)
    request_in = blocking(AsyncUploads.request_in)


class Models(Blocking[AsyncModels]):
    """What can be rendered with."""

    list = blocking(AsyncModels.list)
    presets = blocking(AsyncModels.presets)


class Client(Blocking[AsyncApi]):
    """A blocking client: `with Client() as client`. Several threads may share one.

    Arguments and errors are those of `AsyncClient`. It needs no event loop, and works where one runs.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        tenant: str | None = None,
        answer_seconds: float = ANSWER_SECONDS,
        retries: Retries | None = None,
        network: httpx.BaseTransport | None = None,
    ) -> None:
        connection = Connection.of(base_url, api_key, tenant, answer_seconds=answer_seconds)
        api = AsyncApi(GatewaySession(connection, BlockingTransport(connection, network), retries))
        super().__init__(api)
        self.jobs = Jobs(api.jobs)
        self.batches = Batches(api.batches)
        self.artifacts = Artifacts(api.artifacts)
        self.uploads = PictureUploads(api.uploads)
        self.models = Models(api.models)

    me = blocking(AsyncApi.me)
    read = blocking(AsyncApi.read)
    write = blocking(AsyncApi.write)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        run_now(self._api.session.transport.close())
