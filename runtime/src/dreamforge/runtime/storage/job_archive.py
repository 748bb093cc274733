"""Archived jobs in the object store: read by their place, or a whole object at a time, and erased in place."""

from dataclasses import dataclass, field

from dreamforge.contracts.errors import ArchiveBroken, ArtifactNotFound
from dreamforge.contracts.events import JobArchived
from dreamforge.runtime.log.archived import NO_ARCHIVE, ArchiveReader
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.storage.archive_format import unpacked, without
from dreamforge.runtime.storage.objects import ObjectStore, sha256_of
from dreamforge.runtime.storage.settings import ObjectStoreSettings

CONTENT_TYPE = "application/gzip"
# Jobs of one object follow each other in the log, or nearly.
OBJECTS_KEPT = 2


@dataclass(frozen=True, slots=True)
class JobArchive:
    """Reads one job with one request for its range."""

    objects: ObjectStore

    async def messages(self, job_id: str, archived: JobArchived) -> tuple[LogMessage, ...]:
        """The archived messages of a job; () if it was erased since. Errors: ArchiveBroken, DependencyAway."""
        offset, length = archived.offset_bytes, archived.size_bytes
        try:
            data = await self.objects.get(archived.object_key, offset=offset, length=length)
        except ArtifactNotFound:
            raise _broken(job_id, archived, "it is missing") from None
        return checked(job_id, archived, data)

    async def erase(self, archived: JobArchived) -> None:
        """Overwrite the part of one job, if there is one. The caller is the only writer of archives.

        Errors: DependencyAway.
        """
        try:
            data = await self.objects.get(archived.object_key)
        except ArtifactNotFound:
            return
        rest = without(data, archived.offset_bytes, archived.size_bytes)
        if rest != data:
            await self.objects.put(archived.object_key, rest, CONTENT_TYPE)


@dataclass(slots=True)
class WholeObjects:
    """Reads whole objects and keeps the newest: for a fold that needs all jobs of one, in the order of the log."""

    objects: ObjectStore
    _kept: dict[str, bytes] = field(default_factory=dict)

    async def messages(self, job_id: str, archived: JobArchived) -> tuple[LogMessage, ...]:
        """As `JobArchive.messages`."""
        if archived.object_key not in self._kept:
            try:
                data = await self.objects.get(archived.object_key)
            except ArtifactNotFound:
                raise _broken(job_id, archived, "it is missing") from None
            while len(self._kept) >= OBJECTS_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[archived.object_key] = data
        first = archived.offset_bytes
        return checked(job_id, archived, self._kept[archived.object_key][first : first + archived.size_bytes])


def archive_reader(settings: ObjectStoreSettings) -> ArchiveReader:
    """The archive of an installation; of one without an object store, what refuses any read of it."""
    return JobArchive(ObjectStore(settings)) if settings.s3_secret_key.get_secret_value() else NO_ARCHIVE


def whole_objects(settings: ObjectStoreSettings) -> ArchiveReader:
    """The same for a fold of all jobs."""
    return WholeObjects(ObjectStore(settings)) if settings.s3_secret_key.get_secret_value() else NO_ARCHIVE


def checked(job_id: str, archived: JobArchived, member: bytes) -> tuple[LogMessage, ...]:
    """The messages in the bytes of a member: those that the log names, or none of a job that was erased.

    Errors: ArchiveBroken.
    """
    try:
        messages = unpacked(member)
    except ValueError as error:
        raise _broken(job_id, archived, str(error)) from None
    if messages and sha256_of(member) != archived.sha256:
        raise _broken(job_id, archived, "its hash is another one than the log says")
    return messages


def _broken(job_id: str, archived: JobArchived, what: str) -> ArchiveBroken:
    last = archived.offset_bytes + archived.size_bytes - 1
    where = f"object {archived.object_key}, bytes {archived.offset_bytes} to {last}, job {job_id}"
    return ArchiveBroken(reason=f"{where}: {what}")
