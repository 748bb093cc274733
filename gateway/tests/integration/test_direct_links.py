"""Where clients reach the object store, pictures come from there by links that are valid for minutes."""

from typing import Any

import httpx
import pytest
from simulated_system import SimulatedSystem
from starlette.requests import Request
from test_images import noise, stored

from dreamforge.gateway.http.direct_links import DirectLinks
from dreamforge.gateway.http.stored_bytes import StoredImage
from dreamforge.runtime.service.settings import read
from dreamforge.runtime.storage.objects import ObjectStore, object_key, sha256_of
from dreamforge.runtime.storage.settings import ObjectStoreSettings
from dreamforge.runtime.storage.unix_sockets import UNIX
from dreamforge.runtime.testing.buckets import S3Settings

VALID_SECONDS = 60


def address_of(s3: S3Settings) -> str:
    """The address of the store for clients; the embedded store listens on a socket, whatever name it is asked by."""
    return "http://pictures.test" if s3.endpoint.startswith(UNIX) else f"http://{s3.endpoint}"


def client_of(s3: S3Settings) -> httpx.AsyncClient:
    """A client as it is outside: it knows links, and no keys."""
    socket = s3.endpoint.removeprefix(UNIX) if s3.endpoint.startswith(UNIX) else None
    return httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=socket))


@pytest.fixture
def change_settings(s3_settings: S3Settings) -> dict[str, Any]:
    return {"gateway_pictures_url": address_of(s3_settings), "gateway_pictures_seconds": VALID_SECONDS}


async def test_a_picture_is_read_from_the_store_by_a_link_and_by_nothing_else(
    client: httpx.AsyncClient, system: SimulatedSystem, s3_settings: S3Settings
) -> None:
    data = noise(40, 40)
    address = await stored(system, data)
    redirect = await client.get(address, headers={"Sec-Fetch-Mode": "no-cors"})
    assert (redirect.status_code, redirect.content) == (307, b"")
    assert redirect.headers["cache-control"] == f"private, max-age={VALID_SECONDS // 2}"
    link = redirect.headers["location"]
    assert link.startswith(f"{address_of(s3_settings)}/")
    async with client_of(s3_settings) as outside:
        whole = await outside.get(link)
        assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, data, "image/png")
        part = await outside.get(link, headers={"Range": "bytes=0-3"})
        assert part.content == data[:4]  # rclone says 200 where others say 206
        other = link.replace(object_key(sha256_of(data)), object_key("ab" + "0" * 62))
        assert (await outside.get(other)).status_code == 403
        assert (await outside.get(link.partition("?")[0])).status_code in (400, 403)

    policy = (await client.get("/")).headers["content-security-policy"]
    assert f"img-src 'self' data: {address_of(s3_settings)};" in policy

    etag = f'"{sha256_of(data)}"'
    head = await client.head(address)
    assert (head.status_code, head.headers["etag"], head.headers["content-length"]) == (200, etag, str(len(data)))
    assert (await client.get(address, headers={"If-None-Match": etag})).status_code == 304
    by_script = await client.get(address, headers={"Sec-Fetch-Mode": "cors"})
    assert (by_script.status_code, by_script.content) == (200, data)
    without_recipe = await client.get(address, params={"metadata": "none"})
    assert without_recipe.status_code == 200
    assert (await client.get(f"{address}/thumbnail")).status_code == 200
    gone = await client.get(await stored(system, noise(20, 20), put=False))
    assert (gone.status_code, gone.json()["code"]) == (404, "artifact_not_found")


async def test_videos_are_sent_by_the_gateway(s3_settings: S3Settings) -> None:
    settings = read(ObjectStoreSettings, **fields_of(s3_settings))
    objects, links = ObjectStore(settings), DirectLinks(settings, "https://pictures.example.org", VALID_SECONDS)
    await objects.ensure_bucket()
    request = Request({"type": "http", "method": "GET", "headers": []})
    for content_type, is_sent in (("video/mp4", True), ("image/webp", False)):
        image = StoredImage(object_key(sha256_of(content_type.encode())), "ab", "a-red-circle-0")
        await objects.put(image.key, b"some bytes", content_type)
        assert (await links.respond(request, objects, image) is None) == is_sent


def test_a_link_names_the_public_address_the_file_and_its_type(s3_settings: S3Settings) -> None:
    settings = read(ObjectStoreSettings, **fields_of(s3_settings))
    links = DirectLinks(settings, "https://pictures.example.org:8443", VALID_SECONDS)
    link = httpx.URL(links.link(StoredImage("images/ab/ab", "ab", "a-red-circle-0.png"), "image/png"))
    assert (link.scheme, link.host, link.port) == ("https", "pictures.example.org", 8443)
    assert link.params["X-Amz-Expires"] == str(VALID_SECONDS)
    assert link.params["response-content-type"] == "image/png"
    assert link.params["response-content-disposition"] == 'inline; filename="a-red-circle-0.png"'


def fields_of(s3: S3Settings) -> dict[str, str]:
    return {name.removeprefix("FORGE_").lower(): value for name, value in s3.settings_env().items()}
