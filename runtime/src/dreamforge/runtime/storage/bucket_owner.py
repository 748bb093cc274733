"""Whose bucket it is: an object that names the log whose images it holds, written by the first process that uses it."""

from typing import Protocol

from dreamforge.contracts.errors import ArtifactNotFound, DependencyAway, NotOurs, OtherLog
from dreamforge.contracts.log.streams import JOBS
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.identity import stream_place
from dreamforge.runtime.service import retry
from dreamforge.runtime.storage.objects import (
    ARCHIVE,
    ARCHIVE_OPEN,
    ASIDE,
    IMAGES,
    PROBE,
    UPLOAD_DELETIONS,
    UPLOAD_HASHES,
    UPLOAD_OWNERS,
    UPLOADS,
)

MARKER = ".dreamforge-installation"
# What a bucket of ours has at its top. Readiness may have written its probe before the bucket was marked.
OURS = (
    IMAGES,
    UPLOADS,
    UPLOAD_OWNERS,
    UPLOAD_DELETIONS,
    UPLOAD_HASHES,
    ASIDE,
    ARCHIVE,
    ARCHIVE_OPEN,
    PROBE.partition("/")[0] + "/",
    MARKER,
)
SHOWN_NAMES = 3


class Bucket(Protocol):
    """What a bucket must let its user do to be claimed."""

    bucket: str

    async def ensure_bucket(self) -> None:
        """Make it if it is missing. Errors: DependencyAway."""
        ...

    async def top_names(self) -> list[str]:
        """What is at its top. Errors: DependencyAway."""
        ...

    async def get(self, key: str) -> bytes:
        """Read an object. Errors: ArtifactNotFound, DependencyAway."""
        ...

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """Store an object. Errors: DependencyAway."""
        ...

    async def check(self) -> None:
        """Whether it stores and reads. Errors: DependencyAway."""
        ...


async def owner_of(objects: Bucket) -> str | None:
    """The identity of the log that a bucket belongs to; None if it is not marked. Errors: DependencyAway."""
    try:
        return (await objects.get(MARKER)).decode("utf-8", "replace").strip()
    except ArtifactNotFound:
        return None


async def claim(objects: Bucket, log_id: str) -> None:
    """Create the bucket if it is missing, and mark it as that of this log if it has no mark; an older release's, too.

    Errors: OtherLog when it is marked for another log, NotOurs when it holds objects of something else,
    DependencyAway.
    """
    await objects.ensure_bucket()
    if await owner_of(objects) is None:
        foreign = [name for name in await objects.top_names() if name not in OURS]
        if foreign:
            raise NotOurs(
                what=f"bucket {objects.bucket} of the object store",
                found=f"it holds {', '.join(foreign[:SHOWN_NAMES])}",
                remedy="set FORGE_S3_BUCKET to a bucket of its own",
            )
        await mark(objects, log_id)
    await require_owner(objects, log_id)


async def require_owner(objects: Bucket, log_id: str) -> None:
    """Errors: OtherLog unless the bucket is marked for this log; DependencyAway."""
    owner = await owner_of(objects)
    if owner != log_id:
        raise OtherLog(
            what=f"the objects in bucket {objects.bucket}",
            reason=f"its object {MARKER} names log {owner or 'none'}, and this is log {log_id}",
        )


async def mark(objects: Bucket, log_id: str) -> None:
    """Say that the bucket belongs to this log. Errors: DependencyAway."""
    await objects.put(MARKER, log_id.encode(), "text/plain")


class ClaimedBucket:
    """The bucket as a service uses it: nothing, not even readiness, writes to it before it is known to be ours."""

    def __init__(self, objects: Bucket) -> None:
        self._objects = objects
        self._problem: DependencyAway | OtherLog | None = DependencyAway(dependency="s3", reason="not asked yet")

    async def claim(self, bus: Bus) -> None:
        """Claim it for the log on this connection, for as long as it takes. Errors: NotOurs."""

        async def claimed() -> None:
            try:
                await claim(self._objects, (await stream_place(bus, JOBS.name)).log_id)
            except (DependencyAway, OtherLog) as error:
                self._problem = error
                raise

        await retry.until_it_works("the object store", claimed, DependencyAway, OtherLog)
        self._problem = None

    async def check(self) -> None:
        """Readiness. Errors: OtherLog, DependencyAway."""
        if self._problem is not None:
            raise self._problem
        await self._objects.check()
