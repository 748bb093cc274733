"""Images are stored in and read from a real S3 endpoint; an unavailable store is reported."""

import pytest
from pydantic import SecretStr

from dreamforge.contracts.errors import ArtifactNotFound, DependencyAway
from dreamforge.runtime.service.settings import CommonSettings
from dreamforge.runtime.storage.objects import ObjectStore, object_key, sha256_of, upload_key
from dreamforge.runtime.testing.buckets import S3Settings


def settings(s3: S3Settings) -> CommonSettings:
    return CommonSettings(
        _env_file=None,
        s3_endpoint=s3.endpoint,
        s3_access_key=s3.access_key,
        s3_secret_key=SecretStr(s3.secret_key),
        s3_bucket=s3.bucket,
    )


async def test_what_is_put_can_be_read_as_a_whole_and_in_parts(s3_settings: S3Settings) -> None:
    store = ObjectStore(settings(s3_settings))
    await store.ensure_bucket()
    await store.ensure_bucket()
    data = b"\x89PNG not really"
    key = object_key(sha256_of(data))
    assert not await store.exists(key)
    for _ in range(2):
        await store.put(key, data, "image/png")
    assert await store.exists(key)
    assert await store.get(key) == data
    assert await store.get(key, offset=1, length=3) == b"PNG"
    assert await store.get(key, offset=11) == data[11:]
    head = await store.head(key)
    assert (head.size_bytes, head.content_type) == (len(data), "image/png")
    with pytest.raises(ArtifactNotFound):
        await store.head(object_key("0" * 64))
    with pytest.raises(ArtifactNotFound):
        await store.get(object_key("0" * 64), length=3)


async def test_an_object_is_copied_inside_the_store(s3_settings: S3Settings) -> None:
    store = ObjectStore(settings(s3_settings))
    await store.ensure_bucket()
    rendered, kept = object_key("1" * 64), upload_key("1" * 64)
    with pytest.raises(ArtifactNotFound):
        await store.copy(rendered, kept)
    await store.put(rendered, b"x", "image/png")
    for _ in range(2):
        await store.copy(rendered, kept)
    await store.remove(rendered)
    assert await store.get(kept) == b"x"


async def test_objects_are_listed_and_removed(s3_settings: S3Settings) -> None:
    store = ObjectStore(settings(s3_settings))
    await store.ensure_bucket()
    keys = sorted(object_key(sha256_of(bytes([number]))) for number in range(3))
    for key in keys:
        await store.put(key, b"x", "image/png")
    assert sorted(found.key for found in await store.listed()) == keys
    await store.remove(keys[0])
    await store.remove(keys[0])
    assert sorted(found.key for found in await store.listed()) == keys[1:]


async def test_a_missing_object_is_not_found(s3_settings: S3Settings) -> None:
    store = ObjectStore(settings(s3_settings))
    await store.ensure_bucket()
    with pytest.raises(ArtifactNotFound):
        await store.get(object_key("0" * 64))


async def test_an_unavailable_store_is_reported_as_unavailable() -> None:
    unavailable = CommonSettings(
        _env_file=None, s3_endpoint="127.0.0.1:9", s3_access_key="abc", s3_secret_key=SecretStr("x")
    )
    with pytest.raises(DependencyAway, match="s3"):
        await ObjectStore(unavailable).check()
