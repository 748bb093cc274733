"""Pictures: those that were rendered, and those that a request starts from."""

import re
from pathlib import Path
from typing import Any

from dreamforge.client.downloads import FileSink, MemorySink, picture_download
from dreamforge.client.jobs import AsyncJobs
from dreamforge.client.reading import path_of, read_as
from dreamforge.client.session import GatewaySession
from dreamforge.contracts.replies import Accepted, ArtifactReply, UploadReply

_ARTIFACT_ID = re.compile(r"([0-9a-f-]{36})-\d+-\d+", re.ASCII)
ANY_BYTES = "application/octet-stream"


class AsyncArtifacts:
    """Rendered pictures, by what a job says of them or by their id; with their recipes, whatever the tenant has set."""

    def __init__(self, session: GatewaySession, jobs: AsyncJobs) -> None:
        self._session = session
        self._jobs = jobs

    async def read(self, artifact: ArtifactReply | str) -> bytes:
        """The bytes of a picture, checked against its SHA-256. Errors: DamagedDownload, ProblemError."""
        url, sha256 = await self._named(artifact)
        return await picture_download(self._session, url, MemorySink(), sha256).run()

    async def download(self, artifact: ArtifactReply | str, path: Path | str) -> Path:
        """Save a picture as a file, which is there when all of it is; a broken download goes on where it was.

        Errors: DamagedDownload, OSError, ProblemError.
        """
        url, sha256 = await self._named(artifact)
        return await picture_download(self._session, url, FileSink(Path(path), sha256), sha256).run()

    async def delete(self, artifact_id: str) -> Accepted:
        """Delete one picture for good; its job and the other pictures stay."""
        path = path_of("artifacts", artifact_id)
        return read_as(Accepted, await self._session.write("DELETE", path), f"DELETE {path}")

    async def _named(self, artifact: ArtifactReply | str) -> tuple[str, str]:
        """URL and hash. Of an unknown id the URL alone: the gateway says what is wrong with it."""
        if isinstance(artifact, ArtifactReply):
            return artifact.url, artifact.sha256
        match = _ARTIFACT_ID.fullmatch(artifact)
        listed = (await self._jobs.get(match[1])).artifacts if match else ()
        found = [(each.url, each.sha256) for each in listed if each.artifact_id == artifact]
        return found[0] if found else (self._session.connection.base_url + path_of("artifacts", artifact), "")


class AsyncUploads:
    """Pictures that a request names by their SHA-256: `init_image`, `mask_image`, the image of `control`."""

    def __init__(self, session: GatewaySession) -> None:
        self._session = session

    async def create(self, picture: bytes | Path | str) -> UploadReply:
        """Upload bytes, or the file of a path: PNG, JPEG, WebP or AVIF. The same bytes are the same upload.

        Errors: RequestRefused for what is no picture, LimitExceeded, OSError.
        """
        if not isinstance(picture, bytes):
            picture = await self._session.transport.work(Path(picture).read_bytes)
        document = await self._session.upload("/v1/uploads", picture, ANY_BYTES)
        return read_as(UploadReply, document, "POST /v1/uploads")

    async def delete(self, sha256: str) -> None:
        """Delete an upload."""
        await self._session.write("DELETE", path_of("uploads", sha256))

    async def request_in(self, picture: bytes | Path | str) -> dict[str, Any]:  # Any: a JSON document
        """What a picture says of how it was made, as a request of this gateway; nothing is stored.

        `request` of it can be given to `jobs.create`. Errors: RequestRefused for a picture that says nothing.
        """
        if not isinstance(picture, bytes):
            picture = await self._session.transport.work(Path(picture).read_bytes)
        return await self._session.upload("/v1/imports", picture, ANY_BYTES)
