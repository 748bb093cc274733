"""The gateway as the command asks it: documents as they are sent, over the session of `dreamforge.client`."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import httpx
from httpx_sse import ServerSentEvent

from dreamforge.cli.console import err
from dreamforge.cli.failure import CommandError
from dreamforge.cli.settings import CliSettings, gateway_url
from dreamforge.client.connection import Connection
from dreamforge.client.downloads import Download, FileSink, MemorySink, picture_download
from dreamforge.client.retries import Retries
from dreamforge.client.session import GatewaySession
from dreamforge.client.session import Json as Json
from dreamforge.client.transport import AsyncTransport

# 5 s apart at most: ten minutes.
OUTAGE_TRIES = 120


class GatewayClient:
    """Connection of one caller. `notify` is called with each problem that a retry may solve.

    `network` replaces the connections. Errors of every method: ProblemError, GatewayUnavailable.
    """

    def __init__(
        self,
        settings: CliSettings,
        notify: Callable[[str], object] = err.print,
        network: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        connection = connection_of(settings)
        self.base_url = connection.base_url
        self.tenant = settings.tenant
        # No setting names a gateway, and no stack runs here: one try at the default address is enough.
        expected = {"gateway_url", "gateway_port"} & settings.model_fields_set
        # A person who reached a limit is told so, instead of waiting for it.
        retries = Retries(limit_wait_seconds=0) if expected else Retries(tries=1)
        self._session = GatewaySession(connection, AsyncTransport(connection, network), retries, notify)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.transport.close()

    async def submit(self, body: Json) -> Json:
        """Submit a job; a retry uses the same idempotency key, so it cannot make a second job."""
        return await self._session.create("/v1/jobs", body)

    async def submit_batch(self, body: Json) -> Json:
        """Submit a batch; a retry uses the same idempotency key, so it cannot make a second one."""
        return await self._session.create("/v1/batches", body)

    async def cancel_batch(self, batch_id: str) -> Json:
        """Cancel every job of a batch that has not ended. Idempotent."""
        return await self._session.write("POST", f"/v1/batches/{batch_id}/cancel", repeatable=True)

    async def command(self, job_id: str, name: str, body: Json | None = None) -> Json:
        """A command to a job, such as `cancel`. Idempotent."""
        return await self._session.write("POST", f"/v1/jobs/{job_id}/{name}", body, repeatable=True)

    async def command_queue(self, name: str, tenant: str | None) -> Json:
        """`hold` or `release` of a tenant's queue; None: of every queue. Idempotent."""
        return await self._session.write("POST", f"/v1/queue/{name}", {"tenant": tenant}, repeatable=True)

    async def configure_tenant(self, name: str, change: Json) -> Json:
        """Set quotas and the weight of a tenant; null is the quota of the installation. Idempotent."""
        return await self._session.write("PATCH", f"/v1/tenants/{quote(name, safe='')}", change)

    async def delete(self, path: str) -> Json:
        """Delete what a path names. Idempotent."""
        return await self._session.write("DELETE", path)

    async def write(self, method: str, path: str, body: Json | None, key: str | None = None) -> Json:
        """Any other write; {} where the answer has no body. With an Idempotency-Key it is repeated if need be."""
        return await self._session.write(method, path, body, idempotency_key=key)

    async def upload(self, data: bytes, content_type: str) -> Json:
        """Upload an image to render from; the answer has the hash that names it."""
        return await self._session.upload("/v1/uploads", data, content_type)

    async def import_picture(self, data: bytes, content_type: str) -> Json:
        """The request in a picture; the picture is not stored."""
        return await self._session.upload("/v1/imports", data, content_type)

    async def read(self, path: str, **query: str | int | None) -> Json:
        """One document, at least as new as the last write of this client."""
        return await self._session.read(path, **query)

    async def job(self, job_id: str) -> Json:
        """A job with its attempts and artifacts."""
        return await self.read(f"/v1/jobs/{job_id}")

    def absolute(self, url: str) -> str:
        """A URL of a reply in full: it has the prefix under which the gateway is published."""
        return self._session.connection.absolute(url)

    async def image(self, url: str) -> bytes:
        """The bytes of an image as it was rendered. `url` is as a reply has it."""
        return await picture_download(self._session, url, MemorySink()).run()

    async def save_image(self, url: str, path: Path, sha256: str) -> Path:
        """Save an image as it was rendered; the file is there when all of it is.

        Errors: DamagedDownload, CommandError when it cannot be written.
        """
        return await _saved(picture_download(self._session, url, FileSink(path, sha256), sha256), path)

    async def download(self, url: str, path: Path) -> Path:
        """Save what is at a URL; the file is there when all of it is. Errors: CommandError where it cannot be."""
        return await _saved(Download(self._session, url, FileSink(path)), path)

    def events(self, job_id: str) -> AsyncGenerator[ServerSentEvent, None]:
        """Past events of a job, then new ones, to its end; resumes without gap or repeat after a lost connection."""
        return self._session.events(f"/v1/jobs/{job_id}/events")

    def batch_events(self, batch_id: str, jobs: int) -> AsyncGenerator[ServerSentEvent, None]:
        """As `events`, of all jobs of a batch, until the last of so many has ended."""
        return self._session.events(f"/v1/batches/{batch_id}/events", jobs)

    async def tenant_events(self, names: Sequence[str], last_id: str) -> AsyncGenerator[ServerSentEvent, None]:
        """As `events`, of these names and of all jobs of the tenant, without end: from now on, or after an id.

        A gateway that has answered once is waited for: who watches does not want to begin again after each restart.
        """
        await self.read("/v1/me")
        self._session.retries = replace(self._session.retries, tries=OUTAGE_TRIES)
        messages = self._session.events(f"/v1/events?only={','.join(names)}", None, last_id=last_id)
        async with aclosing(messages):
            async for message in messages:
                yield message


def connection_of(settings: CliSettings) -> Connection:
    """The gateway of the settings, the tenant, and the key where one is set. Errors: InvalidConnection."""
    return Connection.of(gateway_url(settings), settings.api_key.get_secret_value(), settings.tenant)


async def _saved(download: Download[Path], path: Path) -> Path:
    try:
        return await download.run()
    except OSError as error:
        raise CommandError(f"cannot save {path}: {error}", hint="choose another place with --output") from error
