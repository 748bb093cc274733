"""Images come from the gateway's own address: whole, in parts, small, and not at all where the client has them."""

import io
import os

import httpx
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from simulated_system import SimulatedSystem

from dreamforge.contracts.pictures.mark import XMP, XMP_KEYWORD
from dreamforge.contracts.pictures.metadata import read_metadata
from dreamforge.gateway.http.stored_bytes import PART_BYTES
from dreamforge.gateway.read import thumbnails
from dreamforge.runtime import clock, ids
from dreamforge.runtime.storage.objects import ObjectStore, object_key, sha256_of
from dreamforge.runtime.testing import eventually

pytestmark = pytest.mark.usefixtures("shared_gateway")


def noise(width_px: int, height_px: int) -> bytes:
    """A PNG that does not compress."""
    out = io.BytesIO()
    Image.frombytes("RGB", (width_px, height_px), os.urandom(width_px * height_px * 3)).save(out, "PNG")
    return out.getvalue()


async def stored(
    system: SimulatedSystem, data: bytes, *, visible: bool = True, put: bool = True, content_type: str = "image/png"
) -> str:
    """A job with one artifact of these bytes; the artifact's address."""
    sha256, job_id = sha256_of(data), ids.new_id()
    if put:
        await ObjectStore(system.settings).put(object_key(sha256), data, content_type)
    await system.insert_job(job_id, status="succeeded")
    await system.insert(
        "artifacts",
        artifact_id=f"{job_id}-1-0",
        job_id=job_id,
        attempt=1,
        index=0,
        visible=visible,
        sha256=sha256,
        object_key=object_key(sha256),
        size_bytes=len(data),
        content_type=content_type,
        width_px=64,
        height_px=64,
        seed=7,
        recipe={},
        stored_at=clock.now(),
    )
    return f"/v1/artifacts/{job_id}-1-0"


async def test_an_image_comes_from_the_gateway_itself(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    data = noise(400, 400)
    assert len(data) > PART_BYTES, "it is sent in several parts"
    address = await stored(system, data)
    response = await client.get(address)
    assert (response.status_code, response.content) == (200, data)
    assert response.headers["content-type"] == "image/png"
    assert response.headers["content-length"] == str(len(data))
    assert response.headers["etag"] == f'"{sha256_of(data)}"'
    assert "immutable" in response.headers["cache-control"]
    assert response.headers["accept-ranges"] == "bytes"
    job_id = address.removeprefix("/v1/artifacts/")[:36]
    assert response.headers["content-disposition"] == f'inline; filename="a-red-circle-{job_id[-8:]}-0.png"'


async def test_head_says_what_get_says_without_the_bytes(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    address = await stored(system, noise(20, 20))
    for path in (address, f"{address}/thumbnail"):
        head, whole = await client.head(path), await client.get(path)
        assert (head.status_code, head.content) == (200, b"")
        same = ("etag", "content-type", "content-length", "cache-control", "content-disposition")
        assert {name: head.headers[name] for name in same} == {name: whole.headers[name] for name in same}


async def test_a_range_is_of_a_get_only(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    data = noise(20, 20)
    address = await stored(system, data)
    for asked in ("bytes=0-3", f"bytes={len(data) + 9}-"):
        head = await client.head(address, headers={"Range": asked})
        assert (head.status_code, head.headers["content-length"]) == (200, str(len(data)))


@pytest.mark.parametrize("content_type", ["image/png", "video/mp4"])
async def test_parts_of_an_image_or_a_video_can_be_read(
    client: httpx.AsyncClient, system: SimulatedSystem, content_type: str
) -> None:
    data = noise(400, 400)
    address, size = await stored(system, data, content_type=content_type), len(data)
    for asked, part in (
        ("bytes=0-9", slice(0, 10)),
        (f"bytes={PART_BYTES - 5}-{PART_BYTES + 5}", slice(PART_BYTES - 5, PART_BYTES + 6)),
        (f"bytes={size - 3}-", slice(size - 3, size)),
        ("bytes=-7", slice(size - 7, size)),
        (f"bytes=10-{size * 2}", slice(10, size)),
    ):
        response = await client.get(address, headers={"Range": asked})
        assert (response.status_code, response.content) == (206, data[part]), asked
        assert response.headers["content-range"] == f"bytes {part.start}-{part.stop - 1}/{size}"
        assert response.headers["content-type"] == content_type
    beyond = await client.get(address, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.json()["code"]) == (416, "range_not_satisfiable")
    assert beyond.headers["content-range"] == f"bytes */{size}"
    for ignored in ({"Range": "bytes=0-1,4-5"}, {"Range": "lines=1-2"}, {"Range": "bytes=0-1", "If-Range": '"other"'}):
        whole = await client.get(address, headers=ignored)
        assert (whole.status_code, len(whole.content)) == (200, size), ignored


async def test_what_the_client_has_is_not_sent_again(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    address = await stored(system, noise(20, 20))
    for path in (address, f"{address}/thumbnail"):
        etag = (await client.get(path)).headers["etag"]
        again = await client.get(path, headers={"If-None-Match": f'"other", W/{etag}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
        assert (await client.get(path, headers={"If-None-Match": '"other"'})).status_code == 200


async def test_a_thumbnail_is_small_and_made_once(
    client: httpx.AsyncClient, system: SimulatedSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    make = thumbnails.thumbnail

    def counted(original: bytes, pixels_max: int) -> bytes:
        made.append(len(original))
        return make(original, pixels_max)

    monkeypatch.setattr(thumbnails, "thumbnail", counted)
    address = await stored(system, noise(900, 600))
    for _ in range(3):
        small = await client.get(f"{address}/thumbnail")
    assert (small.headers["content-type"], len(made)) == ("image/webp", 1)
    with Image.open(io.BytesIO(small.content)) as image:
        assert (image.format, image.size) == ("WEBP", (512, 341))


async def test_an_image_that_cannot_be_made_smaller_is_sent_whole(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    for data in (b"\x89PNG and no more", noise(20, 20)[:-60]):
        whole = await client.get(f"{await stored(system, data)}/thumbnail")
        assert (whole.status_code, whole.content, whole.headers["etag"]) == (200, data, f'"{sha256_of(data)}"')


def test_thumbnails_stay_within_their_memory(monkeypatch: pytest.MonkeyPatch, forge_env: dict[str, str]) -> None:
    monkeypatch.setattr(thumbnails, "KEPT_BYTES", 100)
    monkeypatch.setattr(thumbnails, "ENTRY_BYTES", 0)
    kept = thumbnails.Thumbnails.__new__(thumbnails.Thumbnails)
    kept._kept, kept._kept_bytes = thumbnails.OrderedDict(), 0
    for number in range(9):
        kept._keep(str(number), bytes(30))
        kept._find("0")
    assert list(kept._kept) == ["7", "8", "0"]
    assert kept._kept_bytes == 90


async def test_what_is_hidden_or_gone_is_not_found(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    hidden = await stored(system, noise(9, 9), visible=False)
    gone = await stored(system, noise(9, 9), put=False)
    for address in (hidden, gone, "/v1/artifacts/nope"):
        for path in (address, f"{address}/thumbnail"):
            response = await client.get(path)
            assert (response.status_code, response.json()["code"]) == (404, "artifact_not_found"), path


async def test_a_store_that_fails_in_the_middle_is_no_whole_image(
    client: httpx.AsyncClient, system: SimulatedSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = noise(400, 400)
    address = await stored(system, data)
    read = ObjectStore.get

    async def lost(self: ObjectStore, key: str, *, offset: int = 0, length: int = 0) -> bytes:
        if offset:
            await self.remove(key)  # the object is deleted while it is sent
        return await read(self, key, offset=offset, length=length)

    monkeypatch.setattr(ObjectStore, "get", lost)
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get(address)
    assert (await client.get(address)).status_code == 404


async def test_lists_that_are_read_again_and_again_cost_nothing_while_unchanged(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    job_id = ids.new_id()
    await system.insert_job(job_id)
    for path in ("/v1/jobs?steps=false", "/v1/models", "/v1/presets", "/v1/runners", "/v1/queue"):
        first = await client.get(path)
        again = await client.get(path, headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b""), path
    before = (await client.get("/v1/jobs")).headers["etag"]
    await system.sql("UPDATE jobs SET priority = 9, version = 2 WHERE job_id = %s", job_id)
    after = await client.get("/v1/jobs", headers={"If-None-Match": before})
    assert (after.status_code, after.json()["jobs"][0]["priority"]) == (200, 9)


async def test_a_list_without_steps_changes_by_events_only(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    job_id = ids.new_id()
    await system.insert_job(job_id, status="running", attempt=1)
    path = "/v1/jobs?status=running&steps=false"
    before = (await client.get(path)).headers["etag"]
    step = {"attempt": 1, "image_index": 0, "images": 1, "step": 1, "steps": 4}
    times = {"elapsed_seconds": 1.0, "eta_seconds": 1.0, "at": clock.now(), "sequence": 1}
    await system.insert("steps", job_id=job_id, **step, **times)
    assert (await client.get(path, headers={"If-None-Match": before})).status_code == 304
    assert (await client.get("/v1/jobs?status=running")).json()["jobs"][0]["step"]["step"] == 1


@pytest.mark.usefixtures("own_gateway")
async def test_a_picture_without_its_recipe_is_another_file_with_the_same_pixels_and_the_mark(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    texts = PngInfo()
    texts.add_text("dreamforge", '{"prompt": "a secret"}')
    texts.add_itxt(XMP_KEYWORD, XMP)
    out = io.BytesIO()
    Image.open(io.BytesIO(noise(40, 40))).save(out, "PNG", pnginfo=texts)
    address = await stored(system, out.getvalue())
    whole, bare = await client.get(address), await client.get(address, params={"metadata": "none"})
    assert b"a secret" in whole.content
    assert b"a secret" not in bare.content
    assert read_metadata(bare.content).is_marked
    pixels = [Image.open(io.BytesIO(each.content)).tobytes() for each in (whole, bare)]
    assert pixels[0] == pixels[1]
    assert bare.headers["etag"] not in ("", whole.headers["etag"])
    assert bare.headers["content-length"] == str(len(bare.content))
    tail = {"Range": "bytes=-40", "If-Range": bare.headers["etag"]}
    part = await client.get(address, params={"metadata": "none"}, headers=tail)
    assert (part.status_code, part.content) == (206, bare.content[-40:])
    known = {"If-None-Match": bare.headers["etag"]}
    assert (await client.get(address, params={"metadata": "none"}, headers=known)).status_code == 304
    assert (await client.get(address, headers=known)).status_code == 200
    assert (await client.get(address, params={"metadata": "some"})).status_code == 422
    configured = await client.patch("/v1/tenants/default", json={"metadata": "none"})
    assert configured.json()["metadata"] == "none"
    await eventually(lambda: client.get("/v1/me"), until=lambda me: me.json()["metadata"] == "none")
    assert (await client.get(address)).content == bare.content
    assert (await client.get(address, params={"metadata": "full"})).content == whole.content
