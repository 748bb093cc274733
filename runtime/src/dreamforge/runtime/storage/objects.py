"""The object store: images under their content hash, on any S3-compatible server, through the MinIO SDK.

Content-addressed, so a put can be repeated at any time, and two equal images are one object.
"""

import asyncio
import hashlib
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import urllib3
from minio.commonconfig import CopySource
from minio.error import InvalidResponseError, MinioException, S3Error

from dreamforge.contracts.errors import ArtifactNotFound, DependencyAway
from dreamforge.contracts.stored_objects import IMAGES as IMAGES
from dreamforge.contracts.stored_objects import object_key as object_key
from dreamforge.runtime.service.settings import InvalidSettings
from dreamforge.runtime.storage.key_locks import KeyLocks
from dreamforge.runtime.storage.s3_client import s3_client
from dreamforge.runtime.storage.settings import ObjectStoreSettings

T = TypeVar("T")
UPLOADS = "uploads/"
UPLOAD_OWNERS = "upload-owners/"
UPLOAD_DELETIONS = "upload-deletions/"
UPLOAD_HASHES = "upload-hashes/"
# Where objects are for a while before they are gone: see `projector.maintenance.object_removal`.
ASIDE = "removed/"
# Events of finished jobs, and marks of the objects whose jobs have not all left the log yet.
ARCHIVE, ARCHIVE_OPEN = "archive/", "archive-open/"
# What readiness checks write and read. Older releases had several, whose names begin so.
PROBE = f"{UPLOADS}.probe"
PROBE_DATA = b"written and read by the readiness check"
TIMEOUT_SECONDS = 10.0
UNAVAILABLE = (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError)
EXISTS = ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")
HTTP_NOT_FOUND = 404
MISSING = ("NoSuchKey", "NoSuchBucket", "NoSuchObject")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as the store lists it."""

    key: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """What the store says about an object without its bytes."""

    size_bytes: int
    content_type: str
    modified_at: datetime | None


def upload_key(sha256: str) -> str:
    """The key of an uploaded image of any type, apart from rendered ones: only those are collected when unused.

    >>> upload_key("ab" + "0" * 62)[:14]
    'uploads/ab/ab0'
    """
    return f"{UPLOADS}{sha256[:2]}/{sha256}"


def upload_owner_key(tenant: str, sha256: str) -> str:
    """An empty object that says that a tenant has uploaded these bytes: they are stored once, and seen by its owners.

    >>> upload_owner_key("studio-a", "ab" + "0" * 62)[:27]
    'upload-owners/studio-a/ab/a'
    """
    return f"{UPLOAD_OWNERS}{tenant}/{sha256[:2]}/{sha256}"


def upload_deletion_key(sha256: str) -> str:
    """An empty object that says that an owner has deleted this upload: its bytes go when nothing needs them.

    >>> upload_deletion_key("ab" + "0" * 62)[:22]
    'upload-deletions/ab/ab'
    """
    return f"{UPLOAD_DELETIONS}{sha256[:2]}/{sha256}"


def upload_hash_key(tenant: str, blake3: str) -> str:
    """An object with the SHA-256 of an upload of a tenant, under its BLAKE3: some clients ask for uploads by that.

    >>> upload_hash_key("studio-a", "ab" + "0" * 62)[:27]
    'upload-hashes/studio-a/ab/a'
    """
    return f"{UPLOAD_HASHES}{tenant}/{blake3[:2]}/{blake3}"


class ObjectStore:
    """Blocking SDK calls, each in a thread; every error becomes DependencyAway("s3")."""

    def __init__(self, settings: ObjectStoreSettings) -> None:
        """Makes no request. Errors: InvalidSettings when there is no secret to sign requests with."""
        if not settings.s3_secret_key.get_secret_value():
            raise InvalidSettings(("FORGE_S3_SECRET_KEY is not set: requests to the object store are signed with it",))
        self.bucket = self._bucket = settings.s3_bucket
        self._client = s3_client(
            settings.s3_endpoint,
            settings.s3_access_key,
            settings.s3_secret_key.get_secret_value(),
            secure=settings.s3_secure,
            region=settings.s3_region,
            timeout_seconds=TIMEOUT_SECONDS,
        )
        self._locks = KeyLocks(settings.s3_endpoint, settings.s3_bucket, timeout_seconds=TIMEOUT_SECONDS)

    async def ensure_bucket(self) -> None:
        """Create the bucket if it does not exist. Errors: DependencyAway."""
        await asyncio.to_thread(self._guard, self._ensure)

    async def put(self, key: str, data: bytes, content_type: str, metadata: Mapping[str, str] | None = None) -> None:
        """Store bytes under a key, with metadata. Errors: DependencyAway."""
        await asyncio.to_thread(self._guard, lambda: self._put(key, data, content_type, metadata or {}))

    async def get(self, key: str, *, offset: int = 0, length: int = 0) -> bytes:
        """Read an object back, or `length` of its bytes from `offset` on; a `length` of 0 reads to its end.

        Errors: ArtifactNotFound(key), DependencyAway, also for an `offset` behind the last byte.
        """
        return await asyncio.to_thread(self._guard, lambda: self._get(key, offset, length))

    async def head(self, key: str) -> ObjectHead:
        """Size, type and time of an object. Errors: ArtifactNotFound(key), DependencyAway."""
        return await asyncio.to_thread(self._guard, lambda: self._head(key))

    async def exists(self, key: str) -> bool:
        """Whether the object exists. Errors: DependencyAway."""
        try:
            await self.head(key)
        except ArtifactNotFound:
            return False
        return True

    async def listed(self, prefix: str = IMAGES) -> list[StoredObject]:
        """Every object under a prefix. Errors: DependencyAway."""
        return await asyncio.to_thread(self._guard, lambda: self._list(prefix))

    async def top_names(self) -> list[str]:
        """The folders and objects at the top of the bucket; folders end with a slash. Errors: DependencyAway."""

        def names() -> list[str]:
            return [str(found.object_name) for found in self._client.list_objects(bucket_name=self._bucket)]

        return await asyncio.to_thread(self._guard, names)

    async def modified_at(self, key: str) -> datetime | None:
        """When an object was stored last; None if it does not exist. Errors: DependencyAway."""
        try:
            return (await self.head(key)).modified_at
        except ArtifactNotFound:
            return None

    async def copy(self, source: str, key: str) -> None:
        """Store an object under another key too, inside the store. Errors: ArtifactNotFound(source), DependencyAway."""
        await asyncio.to_thread(self._guard, lambda: self._copy(source, key))

    async def remove(self, key: str) -> None:
        """Delete one object; a missing one is no error. Errors: DependencyAway."""
        await asyncio.to_thread(self._guard, lambda: self._remove(key))

    async def now(self) -> datetime:
        """The store's own clock: when it says that an object was stored now. Errors: DependencyAway."""
        await self.put(PROBE, PROBE_DATA, "text/plain")
        for found in await self.listed(PROBE):
            return found.modified_at
        raise DependencyAway(dependency="s3", reason=f"{PROBE} was stored and is not listed")

    async def check(self) -> None:
        """Readiness: store a small object and read it back. Errors: DependencyAway."""
        try:
            await self.put(PROBE, PROBE_DATA, "text/plain")
            kept = await self.get(PROBE)
        except ArtifactNotFound as error:
            raise DependencyAway(dependency="s3", reason=f"bucket {self._bucket} does not exist") from error
        if kept != PROBE_DATA:
            raise DependencyAway(dependency="s3", reason=f"{PROBE} was stored, and other bytes came back")

    @staticmethod
    def _guard(call: Callable[[], T]) -> T:
        try:
            return call()
        except S3Error as error:
            if error.code in MISSING:
                raise ArtifactNotFound(artifact_id=str(error.object_name)) from error
            raise DependencyAway(dependency="s3", reason=f"{error.code}: {error.message}") from error
        except InvalidResponseError as error:
            # Some stores (rclone) label their XML errors text/xml, which the SDK does not read.
            if error._code == HTTP_NOT_FOUND:
                raise ArtifactNotFound(artifact_id="") from error
            raise DependencyAway(dependency="s3", reason=_reason(error)) from error
        except UNAVAILABLE as error:
            raise DependencyAway(dependency="s3", reason=str(error) or type(error).__name__) from error

    def _ensure(self) -> None:
        if not self._client.bucket_exists(bucket_name=self._bucket):
            try:
                self._client.make_bucket(bucket_name=self._bucket)
            except S3Error as error:
                if error.code not in EXISTS:
                    raise

    def _put(self, key: str, data: bytes, content_type: str, metadata: Mapping[str, str]) -> None:
        with self._locks.writing(key):
            self._client.put_object(
                bucket_name=self._bucket,
                object_name=key,
                data=io.BytesIO(data),
                length=len(data),
                content_type=content_type,
                metadata=dict(metadata),
            )

    def _copy(self, source: str, key: str) -> None:
        with self._locks.writing(key, source):
            found = CopySource(bucket_name=self._bucket, object_name=source)
            self._client.copy_object(bucket_name=self._bucket, object_name=key, source=found)

    def _remove(self, key: str) -> None:
        with self._locks.removing(key):
            self._client.remove_object(bucket_name=self._bucket, object_name=key)

    def _list(self, prefix: str) -> list[StoredObject]:
        found = self._client.list_objects(bucket_name=self._bucket, prefix=prefix, recursive=True)
        return [StoredObject(str(o.object_name), o.size or 0, o.last_modified) for o in found if o.last_modified]

    def _head(self, key: str) -> ObjectHead:
        with self._locks.reading(key):
            found = self._client.stat_object(bucket_name=self._bucket, object_name=key)
        return ObjectHead(found.size or 0, found.content_type or "", found.last_modified)

    def _get(self, key: str, offset: int, length: int) -> bytes:
        with self._locks.reading(key):
            response = self._client.get_object(bucket_name=self._bucket, object_name=key, offset=offset, length=length)
            try:
                data: bytes = response.read()
                return data
            finally:
                response.close()
                response.release_conn()


def _reason(error: InvalidResponseError) -> str:
    """The status and the message of the store's XML, on one line."""
    words = re.findall(r"<(?:Code|Message)>([^<]+)", str(error._body))
    return ": ".join([f"status {error._code}", *words])


def sha256_of(data: bytes) -> str:
    """The content hash that identifies an image, in hex."""
    return hashlib.sha256(data).hexdigest()
