"""Images are stored in and read from a real S3 endpoint; an unavailable store is reported."""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from pydantic import SecretStr

from dreamforge.contracts.errors import ArtifactNotFound, DependencyAway
from dreamforge.runtime.embedded import spawn
from dreamforge.runtime.embedded.binaries import find_program
from dreamforge.runtime.embedded.ports import free_port, is_taken
from dreamforge.runtime.storage.objects import ObjectStore, object_key, sha256_of, upload_key
from dreamforge.runtime.storage.settings import ObjectStoreSettings
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.buckets import S3Settings


def settings(s3: S3Settings) -> ObjectStoreSettings:
    return ObjectStoreSettings(
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


async def test_objects_stay_whose_folder_is_made_or_emptied_meanwhile(s3_settings: S3Settings) -> None:
    """Both failed now and then, and an object that was acknowledged was lost (decision 0114)."""
    store = ObjectStore(settings(s3_settings))
    await store.ensure_bucket()
    for number in range(25):
        folder = f"images/{number:02}"
        first = [f"{folder}/{name}" for name in "abc"]
        await asyncio.gather(*(store.put(key, b"x", "image/png") for key in first))
        kept = f"{folder}/kept"
        await asyncio.gather(*map(store.remove, first), store.put(kept, b"y", "image/png"))
        assert await store.get(kept) == b"y"
        assert [found.key for found in await store.listed(f"{folder}/")] == [kept]


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


async def test_writers_and_readers_of_one_key_do_not_disturb_each_other(s3_settings: S3Settings) -> None:
    stores = [ObjectStore(settings(s3_settings)) for _ in range(4)]
    await stores[0].ensure_bucket()
    texts = [bytes([number]) * 3000 for number in range(4)]
    for number in range(50):
        key = upload_key(f"{number:064}")
        await asyncio.gather(*(store.put(key, text, "image/png") for store, text in zip(stores, texts, strict=True)))
        _, read = await asyncio.gather(stores[0].put(key, texts[0], "image/png"), stores[1].get(key))
        assert read in texts


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
    unavailable = ObjectStoreSettings(
        _env_file=None, s3_endpoint="127.0.0.1:9", s3_access_key="abc", s3_secret_key=SecretStr("x")
    )
    with pytest.raises(DependencyAway, match="s3"):
        await ObjectStore(unavailable).check()


def certificate(folder: Path) -> tuple[str, str]:
    """A certificate for loopback addresses that nobody knows, and its key."""
    paths = str(folder / "certificate.pem"), str(folder / "key.pem")
    names = "subjectAltName=IP:::1,IP:127.0.0.1"
    command = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test")
    subprocess.run((*command, "-addext", names, "-out", paths[0], "-keyout", paths[1]), check=True, capture_output=True)
    return paths


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
async def test_a_store_at_an_ipv6_address_is_trusted_by_the_certificates_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "objects").mkdir()
    trusted, key = certificate(tmp_path)
    port, pair = free_port(), "forgekey,forgesecret"
    command = (str(find_program("rclone")), "serve", "s3", str(tmp_path / "objects"), "--addr", f"[::1]:{port}")
    environment = {"RCLONE_AUTH_KEY": json.dumps(pair), "PATH": os.defpath}
    with (tmp_path / "s3.log").open("wb") as log:
        options = ("--config", "", "--cert", trusted, "--key", key)
        process = await spawn((*command, *options), environment=environment, output=log)
    try:
        await eventually(lambda: is_taken(port, "::1"), 20)
        access, secret = pair.split(",")
        secure = ObjectStoreSettings(
            _env_file=None,
            s3_endpoint=f"[::1]:{port}",
            s3_secure=True,
            s3_access_key=access,
            s3_secret_key=SecretStr(secret),
        )
        with pytest.raises(DependencyAway, match="CERTIFICATE_VERIFY_FAILED"):
            await ObjectStore(secure).ensure_bucket()
        monkeypatch.setenv("SSL_CERT_FILE", trusted)
        await ObjectStore(secure).ensure_bucket()
    finally:
        await process.kill()
