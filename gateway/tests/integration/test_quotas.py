"""Quotas of tenants over HTTP: set by an administrator, seen by the tenant, and what is refused says which and when."""

import asyncio
import io
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from PIL import Image
from simulated_system import BODY, SimulatedSystem, models, ready, running, settings_of, watch

from dreamforge.contracts.access import CreateKey, Scope, written_key
from dreamforge.contracts.log.streams import JOBS
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.contracts.request.values import Upscale
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.aggregate import KEY
from dreamforge.runtime.log.follow import last_sequence
from dreamforge.runtime.testing import eventually

SMALL = 64 * 64 * 4  # pixel-steps of BODY


@pytest.fixture
def change_settings() -> dict[str, object]:
    return {"gateway_auth": "keys", "quota": {"uploads": 7}}


@pytest.fixture
async def url(system: SimulatedSystem) -> AsyncIterator[str]:
    async with running(system.settings) as (url, _), httpx.AsyncClient(base_url=url) as anybody:
        await ready(anybody)
        yield url


async def with_key(system: SimulatedSystem, url: str, tenant: str, *scopes: Scope) -> httpx.AsyncClient:
    """A client with a key, once the gateway knows it."""
    key_id, secret = ids.new_key_id(), ids.new_key_secret()
    await system.store.handle(KEY, key_id, CreateKey(clock.now(), secret, "test", tenant, frozenset(scopes)))
    headers = {"Authorization": f"Bearer {written_key(key_id, secret)}"}
    client = httpx.AsyncClient(base_url=url, headers=headers, timeout=20)
    await eventually(lambda: client.get("/v1/me"), until=lambda answer: answer.status_code == 200)
    return client


async def quotas_of(client: httpx.AsyncClient) -> dict[str, Any]:
    return {each["quota"]: each for each in (await client.get("/v1/me")).json()["quotas"]}


async def configure(admin: httpx.AsyncClient, client: httpx.AsyncClient, **change: object) -> None:
    """Set quotas of tenant a, and wait until the gateway has read its event back."""
    answer = await admin.patch("/v1/tenants/a", json=change)
    assert answer.status_code == 200, answer.text

    async def read() -> bool:
        shown = (await admin.get("/v1/tenants/a")).json()
        limits = {each["quota"]: each["limit"] for each in shown["quotas"]} | {"weight": shown["weight"]}
        return all(limits[name] == value for name, value in change.items() if value is not None)

    await eventually(read)


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    problem = answer.json()
    assert int(answer.headers["retry-after"]) == problem["retry_after_seconds"] >= 1
    return answer.status_code, problem["code"], problem["quota"]


async def uploads_use_stored_bytes(admin: httpx.AsyncClient, user: httpx.AsyncClient, already: int) -> None:
    """At once, and until they are deleted."""
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(out, "PNG")
    png = out.getvalue()
    await configure(admin, user, stored_bytes=already + len(png))

    async def upload(content: bytes) -> httpx.Response:
        return await user.post("/v1/uploads", content=content, headers={"Content-Type": "image/png"})

    async def used() -> int:
        return int((await quotas_of(user))["stored_bytes"]["used"])

    assert (await upload(b"x" * len(png))).status_code == 422  # what is not kept uses nothing
    kept = await upload(png)
    assert kept.status_code == 201
    for refused in (await upload(b"x"), await user.post("/v1/jobs", json=BODY)):
        assert refusal(refused) == (429, "quota_exceeded", "stored_bytes")
    await eventually(used, until=lambda found: found == already + len(png))
    assert (await user.delete(f"/v1/uploads/{kept.json()['sha256']}")).status_code == 204
    await eventually(used, until=lambda found: found == already)


async def test_each_quota_is_set_shown_and_enforced(system: SimulatedSystem, url: str) -> None:
    user = await with_key(system, url, "a", Scope.READ, Scope.SUBMIT)
    admin = await with_key(system, url, "ops", Scope.ADMIN)
    await eventually(lambda: models(user))
    for method, path in (("GET", "/v1/tenants"), ("GET", "/v1/tenants/a"), ("PATCH", "/v1/tenants/a")):
        assert (await user.request(method, path, json={})).status_code == 403
    assert (await quotas_of(user))["uploads"] == {
        "quota": "uploads", "limit": 7, "own": False, "used": 0, "frees_at": None,
    }  # fmt: skip

    await configure(admin, user, open_jobs=1, weight=3)
    first = await user.post("/v1/jobs", json=BODY, headers={"Idempotency-Key": "1"})
    assert first.status_code == 202
    assert refusal(await user.post("/v1/jobs", json=BODY)) == (429, "quota_exceeded", "open_jobs")
    again = await user.post("/v1/jobs", json=BODY, headers={"Idempotency-Key": "1"})
    assert (again.status_code, again.json()["job_id"]) == (202, first.json()["job_id"])
    assert (await quotas_of(user))["open_jobs"]["used"] == 1

    await configure(admin, user, open_jobs=None, pixel_steps_per_hour=2 * SMALL)
    for _ in range(2):  # the first job is not in the tables of this test, and was accepted before there was a quota
        assert (await user.post("/v1/jobs", json=BODY)).status_code == 202
    assert refusal(await user.post("/v1/jobs", json=BODY)) == (429, "quota_exceeded", "pixel_steps_per_hour")

    await configure(admin, user, pixel_steps_per_hour=None, streams=0)
    watched = await user.get(f"/v1/jobs/{first.json()['job_id']}/events")
    assert refusal(watched) == (429, "quota_exceeded", "streams")
    assert len(await watch(admin, first.json()["job_id"], count=1)) == 1  # the administrator's tenant has no limit
    before = await last_sequence(system.bus, JOBS.name)
    facade = await user.post("/v1/images/generations", json={"prompt": "a"})
    assert facade.status_code == 429
    assert await last_sequence(system.bus, JOBS.name) == before, "a job that its client does not know of"

    await configure(admin, user, streams=1)
    racing = [asyncio.create_task(user.post("/v1/images/generations", json={"prompt": "a"})) for _ in range(2)]
    (lost,), (won,) = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
    assert (await lost).status_code == 429
    await eventually(lambda: last_sequence(system.bus, JOBS.name), until=lambda last: last > before)
    assert await last_sequence(system.bus, JOBS.name) == before + 1, "the one without a stream has no job"
    won.cancel()

    await configure(admin, user, streams=None, stored_bytes=100)
    await system.insert_job(first.json()["job_id"], tenant="a")
    await system.insert_artifact(first.json()["job_id"], size_bytes=90)
    await system.insert("tenant_usage", tenant="a", stored_bytes=90)
    await eventually(lambda: quotas_of(user), until=lambda found: found["stored_bytes"]["used"] == 90)
    upload = {"content": b"x" * 11, "headers": {"Content-Type": "image/png"}}
    assert refusal(await user.post("/v1/uploads", **upload)) == (429, "quota_exceeded", "stored_bytes")
    await uploads_use_stored_bytes(admin, user, already=90)

    await configure(admin, user, stored_bytes=None, requests_per_second=0.01)
    assert (await user.get("/v1/jobs")).status_code == 200
    assert refusal(await user.get("/v1/jobs")) == (429, "quota_exceeded", "requests_per_second")
    shown = (await admin.get("/v1/tenants")).json()["tenants"]
    assert [(each["tenant"], each["weight"]) for each in shown] == [("a", 3)]
    for wrong in ({"open_jobs": -1}, {"weight": 0}, {"open_job": 1}, {"streams": "1"}):
        assert (await admin.patch("/v1/tenants/a", json=wrong)).status_code == 422
    assert (await admin.get("/v1/tenants/a.b")).status_code == 400


async def test_the_tables_count_what_a_request_is_said_to_cost(
    forge_env: dict[str, str], system: SimulatedSystem
) -> None:
    """Pixel-steps in SQL are those of the contracts, jobs of more than an hour ago count no more."""
    settings = settings_of(forge_env, quota={"pixel_steps_per_hour": 10**15})
    common: dict[str, Any] = {"model_id": "m", "preset": "p", "prompt": "x", "guidance_scale": 1, "seed": 1}
    shapes = (
        RenderRequest(**common, width_px=64, height_px=128, steps=3),
        RenderRequest(**common, width_px=128, height_px=64, steps=7, images=4),
        RenderRequest(**common, width_px=64, height_px=64, steps=5, upscale=Upscale(width_px=128, height_px=192)),
        RenderRequest(
            **common, width_px=64, height_px=64, steps=5, upscale=Upscale(width_px=96, height_px=96, steps=9)
        ),
        RenderRequest(
            **common,
            width_px=64,
            height_px=64,
            steps=5,
            upscale=Upscale(width_px=128, height_px=128, tile_px=64, tile_overlap_px=8, tiled_px=9 * 64 * 64),
        ),
    )
    now = clock.now()
    for number, request in enumerate(shapes):
        at = now - timedelta(minutes=13 * number)
        await system.insert_job(ids.new_id(), request=request.model_dump(mode="json"), requested_at=at)
    await system.insert_job(ids.new_id(), requested_at=now - timedelta(minutes=62))
    async with running(settings) as (url, _), httpx.AsyncClient(base_url=url, timeout=20) as client:
        await ready(client)
        used = (await quotas_of(client))["pixel_steps_per_hour"]["used"]
        assert used == sum(request.pixel_steps for request in shapes)
