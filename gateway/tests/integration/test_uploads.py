"""What was brought can be named and read again; what is named must have been brought."""

import asyncio
import io
from typing import Any

import httpx
import pytest
from PIL import Image
from simulated_system import BODY, MODEL, SimulatedSystem, models

from dreamforge.contracts.events import JobRequested
from dreamforge.runtime import clock, ids
from dreamforge.runtime.storage.objects import ObjectStore, object_key, sha256_of, upload_key
from dreamforge.runtime.testing import eventually


def picture(kind: str = "PNG", size: tuple[int, int] = (24, 16)) -> bytes:
    out = io.BytesIO()
    Image.effect_mandelbrot(size, (-2, -1.5, 1, 1.5), 20).save(out, kind)
    return out.getvalue()


async def bring(client: httpx.AsyncClient, data: bytes, content_type: str = "image/png") -> httpx.Response:
    return await client.post("/v1/uploads", content=data, headers={"Content-Type": content_type})


async def test_a_picture_is_kept_under_its_hash_however_often_it_comes(client: httpx.AsyncClient) -> None:
    data = picture()
    answers = await asyncio.gather(*(bring(client, data) for _ in range(4)))
    assert {each.status_code for each in answers} == {201}
    assert len({each.text for each in answers}) == 1
    sha256 = sha256_of(data)
    assert answers[0].json() == {
        "sha256": sha256,
        "width_px": 24,
        "height_px": 16,
        "size_bytes": len(data),
        "content_type": "image/png",
        "url": f"/v1/uploads/{sha256}",
    }
    assert answers[0].headers["location"] == f"/v1/uploads/{sha256}"
    read = await client.get(f"/v1/uploads/{sha256}")
    assert (read.content, read.headers["content-type"]) == (data, "image/png")
    assert read.headers["etag"] == f'"{sha256}"'
    assert (await client.head(f"/v1/uploads/{sha256}")).headers["content-length"] == str(len(data))
    part = await client.get(f"/v1/uploads/{sha256}", headers={"Range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, data[1:4])


@pytest.mark.parametrize("change_settings", [{"limit": {"upload_bytes": 4096, "upload_pixels": 1000}}])
async def test_what_is_no_picture_within_bounds_is_refused(client: httpx.AsyncClient) -> None:
    cases = (
        (b"", "image/png", 422, "bad_picture"),
        (picture()[:-5], "image/png", 422, "bad_picture"),
        (picture("GIF"), "image/png", 422, "bad_picture"),
        (picture("GIF"), "image/gif", 422, "bad_picture"),
        (picture(), "multipart/form-data", 415, "unsupported_media_type"),
        (picture(size=(40, 40)), "image/png", 422, "out_of_bounds"),
        (bytes(4097), "image/png", 413, "body_too_large"),
    )
    for data, content_type, status, code in cases:
        response = await bring(client, data, content_type)
        assert (response.status_code, response.json()["code"]) == (status, code), (content_type, response.text)
        assert (await client.get(f"/v1/uploads/{sha256_of(data)}")).status_code == 404
    for name in ("nope", "A" * 64, "%00"):
        missing = await client.get(f"/v1/uploads/{name}")
        assert (missing.status_code, missing.json()["code"]) == (404, "upload_not_found")


async def test_a_deleted_upload_cannot_be_read_until_it_is_uploaded_again(client: httpx.AsyncClient) -> None:
    kept = (await bring(client, picture())).json()
    assert (await client.delete("/v1/uploads/" + "0" * 64)).status_code == 404
    assert [(await client.delete(kept["url"])).status_code for _ in range(2)] == [204, 404]
    assert (await client.get(kept["url"])).status_code == 404
    await bring(client, picture())
    assert (await client.get(kept["url"])).status_code == 200


async def test_a_picture_that_was_rendered_here_can_be_started_from(
    client: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    objects = ObjectStore(system.settings)
    await system.register(MODEL.model_copy(update={"model_id": "sd", "family": "stable-diffusion"}))
    await eventually(lambda: models(client), until=lambda found: len(found) == 2)
    painted, sha256 = picture(), sha256_of(picture())
    body = BODY | {"model_id": "sd", "init_image": sha256}
    assert (await client.post("/v1/jobs", json=body)).json()["code"] == "unknown_upload"
    await objects.put(object_key(sha256), painted, "image/png")
    rendered = ids.new_id()
    await system.insert_job(rendered, erase_at=clock.now())
    await system.insert_artifact(rendered, sha256=sha256)
    assert (await client.post("/v1/jobs", json=body)).json()["code"] == "unknown_upload", "of a deleted job"
    await system.sql("UPDATE jobs SET erase_at = NULL")
    assert (await client.post("/v1/jobs", json=body)).status_code == 202
    await objects.remove(object_key(sha256))  # whoever collects objects does not take it from the job
    assert await objects.get(upload_key(sha256)) == painted


async def test_a_request_names_only_uploads_that_are_there(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    await system.register(MODEL.model_copy(update={"model_id": "sd", "family": "stable-diffusion"}))
    await eventually(lambda: models(client), until=lambda found: len(found) == 2)
    first = (await bring(client, picture())).json()["sha256"]
    body: dict[str, Any] = BODY | {"model_id": "sd", "init_image": first}
    accepted = await client.post("/v1/jobs", json=body)
    assert accepted.status_code == 202, accepted.text
    refused = await client.post("/v1/jobs", json=body | {"mask_image": "0" * 64})
    problem = refused.json()
    assert (refused.status_code, problem["code"], problem["field"]) == (422, "unknown_upload", "mask_image")
    assert problem["errors"][0]["pointer"] == "/mask_image"


async def test_a_file_is_what_its_content_says(client: httpx.AsyncClient) -> None:
    for kind, sent in (("JPEG", "image/png"), ("JPEG", "image/jpg"), ("WEBP", "application/octet-stream")):
        kept = (await bring(client, picture(kind), sent)).json()
        read = await client.get(kept["url"])
        assert kept["content_type"] == read.headers["content-type"] == f"image/{kind.lower()}"


async def test_a_render_can_take_the_size_of_its_image(client: httpx.AsyncClient, system: SimulatedSystem) -> None:
    await system.register(MODEL.model_copy(update={"model_id": "sd", "family": "stable-diffusion"}))
    await eventually(lambda: models(client), until=lambda found: len(found) == 2)
    out, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6  # lying on its side
    Image.new("RGB", (96, 64)).save(out, "JPEG", exif=exif)
    brought = (await bring(client, out.getvalue(), "image/jpeg")).json()
    assert (brought["width_px"], brought["height_px"]) == (64, 96)
    body: dict[str, Any] = BODY | {"model_id": "sd", "init_image": brought["sha256"], "resize_mode": "image_size"}
    accepted = (await client.post("/v1/jobs", json=body)).json()
    (recorded,) = (await system.store.load(accepted["job_id"])).history
    assert isinstance(recorded.event, JobRequested)
    request = recorded.event.request
    assert (request.width_px, request.height_px, request.resize_mode) == (64, 96, "crop")
    refused = await client.post("/v1/jobs", json=body | {"init_image": "0" * 64})
    assert (refused.status_code, refused.json()["code"]) == (422, "unknown_upload")
