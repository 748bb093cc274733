"""Uploads reach the runner's disk once, checked, and do not fill it."""

import hashlib
import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from dreamforge.contracts.events import FailureReason
from dreamforge.gpu_runner.supervisor.input_cache import InputCache
from dreamforge.gpu_runner.supervisor.task_monitor import AttemptLost
from dreamforge.runtime.storage.objects import ObjectStore, upload_key
from dreamforge.runtime.storage.settings import ObjectStoreSettings
from dreamforge.runtime.testing.buckets import S3Settings

PICTURE = b"any bytes: the gateway has looked into them"
SHA256 = hashlib.sha256(PICTURE).hexdigest()


@pytest.fixture
async def object_store(s3_settings: S3Settings) -> ObjectStore:
    settings = ObjectStoreSettings(
        _env_file=None,
        s3_endpoint=s3_settings.endpoint,
        s3_access_key=s3_settings.access_key,
        s3_secret_key=SecretStr(s3_settings.secret_key),
        s3_bucket=s3_settings.bucket,
    )
    store = ObjectStore(settings)
    await store.ensure_bucket()
    return store


def content_of(path: str) -> bytes:
    return Path(path).read_bytes()


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_an_upload_is_fetched_once_and_is_what_its_name_says(object_store: ObjectStore, tmp_path: Path) -> None:
    await object_store.put(upload_key(SHA256), PICTURE, "image/png")
    inputs = InputCache(object_store, tmp_path / "uploads")
    fetched = await inputs.fetch(SHA256)
    assert content_of(fetched.path) == PICTURE
    await object_store.remove(upload_key(SHA256))
    assert await inputs.fetch(SHA256) == fetched
    assert names_in(tmp_path / "uploads") == {SHA256}


async def test_an_upload_that_is_not_there_or_is_another_one_ends_the_attempt(
    object_store: ObjectStore, tmp_path: Path
) -> None:
    inputs = InputCache(object_store, tmp_path)
    with pytest.raises(AttemptLost, match="there is no upload") as missing:
        await inputs.fetch("0" * 64)
    await object_store.put(upload_key("1" * 64), PICTURE, "image/png")
    with pytest.raises(AttemptLost, match="holds other bytes") as swapped:
        await inputs.fetch("1" * 64)
    for lost in (missing.value, swapped.value):
        assert (lost.reason, lost.retryable) == (FailureReason.INVALID_REQUEST, False)
    assert not names_in(tmp_path)


async def test_the_least_recently_used_upload_makes_room(object_store: ObjectStore, tmp_path: Path) -> None:
    pictures = [bytes([n]) * 40 for n in range(3)]
    names = [hashlib.sha256(picture).hexdigest() for picture in pictures]
    for name, picture in zip(names, pictures, strict=True):
        await object_store.put(upload_key(name), picture, "image/png")
    inputs = InputCache(object_store, tmp_path, kept_bytes=100)
    for age, name in enumerate(names[:2]):
        os.utime((await inputs.fetch(name)).path, (1_000 + age, 1_000 + age))
    await inputs.fetch(names[0])  # used again: now the other one is the older
    await inputs.fetch(names[2])
    assert names_in(tmp_path) == {names[0], names[2]}


async def test_a_disk_that_takes_nothing_is_said_with_the_file_and_the_attempt_may_go_elsewhere(
    object_store: ObjectStore, tmp_path: Path
) -> None:
    await object_store.put(upload_key(SHA256), PICTURE, "image/png")
    (tmp_path / "file").write_text("")
    with pytest.raises(AttemptLost, match=f"cannot keep upload {SHA256}") as lost:
        await InputCache(object_store, tmp_path / "file" / "uploads").fetch(SHA256)
    assert lost.value.retryable
