"""Keys: who may do what, and that one tenant never sees another's, whatever the operation."""

import asyncio
import io
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from PIL import Image
from simulated_system import BODY, MODEL, SimulatedSystem, events, models, ready, running

from dreamforge.contracts.access import CreateKey, RevokeKey, Scope, written_key
from dreamforge.gateway.http.authentication import csrf_token
from dreamforge.gateway.routes.common import PUBLIC_BODY_SECONDS
from dreamforge.gateway.settings import GatewaySettings
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.aggregate import KEY
from dreamforge.runtime.service.settings import InvalidSettings, read
from dreamforge.runtime.testing import eventually

USER = frozenset((Scope.READ, Scope.SUBMIT))


@pytest.fixture
def change_settings() -> dict[str, object]:
    return {"gateway_auth": "keys"}


@pytest.fixture
async def anybody(system: SimulatedSystem, settings: GatewaySettings) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key, of a gateway that asks for one. `system` has registered a model."""
    assert system
    async with running(settings) as (url, _), httpx.AsyncClient(base_url=url, timeout=20) as client:
        await ready(client)
        yield client


async def new_key(system: SimulatedSystem, tenant: str, scopes: frozenset[Scope] = USER, **options: Any) -> str:
    key_id, secret = ids.new_key_id(), ids.new_key_secret()
    await system.store.handle(KEY, key_id, CreateKey(clock.now(), secret, "test", tenant, scopes, **options))
    return written_key(key_id, secret)


async def using(client: httpx.AsyncClient, key: str) -> httpx.AsyncClient:
    """A client with a key, once the gateway knows it."""
    headers = {"Authorization": f"Bearer {key}"}
    keyed = httpx.AsyncClient(base_url=client.base_url, headers=headers, timeout=20)

    async def me() -> int:
        return (await keyed.get("/v1/me")).status_code

    await eventually(me, until=lambda status: status == 200)
    return keyed


async def test_without_a_key_nothing_is_shown_or_done(anybody: httpx.AsyncClient) -> None:
    document = (await anybody.get("/openapi.json")).json()
    asked = 0
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            answer = await anybody.request(method, re.sub(r"\{.*?\}", ids.new_id(), path))
            if "x-scope" in operation:
                asked += 1
                assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated"), (method, path)
                assert answer.headers["www-authenticate"] == "Bearer"
            else:
                assert answer.status_code != 401, (method, path)
    assert asked > 15
    assert (await anybody.get("/")).status_code == 200
    assert set((await anybody.get("/readyz")).json()["checks"].values()) == {"ok"}


async def test_a_scope_allows_what_it_names(anybody: httpx.AsyncClient, system: SimulatedSystem) -> None:
    reader = await using(anybody, await new_key(system, "a", frozenset((Scope.READ,))))
    user = await using(anybody, await new_key(system, "a"))
    admin = await using(anybody, await new_key(system, "ops", frozenset((Scope.ADMIN,))))
    assert (await reader.get("/v1/jobs")).status_code == 200
    refused = await reader.post("/v1/jobs", json=BODY)
    assert (refused.status_code, refused.json()["code"]) == (403, "scope_needed")
    assert (await user.post("/v1/jobs", json=BODY)).status_code == 202
    for only_admin in ("/metrics",):
        assert (await user.get(only_admin)).status_code == 403
        assert (await admin.get(only_admin)).status_code == 200
    assert (await user.post("/v1/queue/hold", json={"tenant": "a"})).status_code == 200
    for others in ({"tenant": "b"}, {}):
        forbidden = await user.post("/v1/queue/hold", json=others)
        assert (forbidden.status_code, forbidden.json()["detail"]) == (
            403,
            "this needs an API key with the scope 'admin'",
        )
        assert (await admin.post("/v1/queue/hold", json=others)).status_code == 200

    async def held() -> set[str | None]:
        return {each["tenant"] for each in (await user.get("/v1/queue")).json()["held"]}

    # A gateway reads its own events back a moment after it has answered.
    await eventually(held, until=lambda found: found == {"a", None})
    me = (await user.get("/v1/me")).json()
    assert (me["tenant"], me["scopes"], me["authentication"]) == ("a", ["read", "submit"], "keys")


async def test_no_spelling_of_a_path_needs_less_than_the_path(
    anybody: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    """Scopes are found by the path: whatever a route answers to, too, would be answered with the scope of another."""
    user = await using(anybody, await new_key(system, "a"))
    document = (await anybody.get("/openapi.json")).json()
    for path, methods in document["paths"].items():
        named = re.sub(r"\{.*?\}", ids.new_id(), path)
        for other in (f"{named}%0A", f"{named}/", f"/{named}", f"{named}%00", named.upper()):
            if other == named:
                continue
            url = str(user.base_url).rstrip("/") + other
            for method in methods:
                assert (await user.request(method, url)).status_code in (403, 404, 405), (method, other)


async def test_the_tenant_is_that_of_the_key(anybody: httpx.AsyncClient, system: SimulatedSystem) -> None:
    user = await using(anybody, await new_key(system, "a"))
    claimed = await user.post("/v1/jobs", json=BODY, headers={"Forge-Tenant": "b"})
    assert (await system.store.load(claimed.json()["job_id"])).state.tenant == "a"
    admin = await using(anybody, await new_key(system, "ops", frozenset((Scope.ADMIN,))))
    for_b = await admin.post("/v1/jobs", json=BODY, headers={"Forge-Tenant": "b"})
    assert (await system.store.load(for_b.json()["job_id"])).state.tenant == "b"
    held = await admin.post(f"/v1/jobs/{claimed.json()['job_id']}/hold")
    assert held.status_code == 202


async def test_one_tenant_never_sees_or_changes_anothers(anybody: httpx.AsyncClient, system: SimulatedSystem) -> None:
    """Every operation of the document that names a job or an artifact, with another tenant's and with none."""
    owner = await using(anybody, await new_key(system, "a"))
    other = await using(anybody, await new_key(system, "b"))
    job_id = (await owner.post("/v1/jobs", json=BODY)).json()["job_id"]
    await system.insert_job(job_id, tenant="a")
    artifact_id = f"{job_id}-1-0"
    batch_id = (await owner.post("/v1/batches", json={"grid": {"prompt": ["a"]}})).json()["batch_id"]
    names = {
        "{job_id}": (job_id, ids.new_id()),
        "{artifact_id}": (artifact_id, f"{ids.new_id()}-1-0"),
        "{batch_id}": (batch_id, ids.new_id()),
    }
    document = (await anybody.get("/openapi.json")).json()
    tried = 0
    for path, methods in document["paths"].items():
        for parameter, (theirs, missing) in names.items():
            if parameter not in path:
                continue
            for method in methods:
                body = {"json": {"priority": 1}} if path.endswith("/priority") else {}
                answers = []
                for named in (theirs, missing):
                    answer = await other.request(method, path.replace(parameter, named), **body)
                    problem = answer.json()
                    answers.append((answer.status_code, problem["code"], problem["detail"].replace(named, "X")))
                assert answers[0] == answers[1], (method, path)
                assert answers[0][0] == 404, (method, path)
                tried += 1
    assert tried >= 12
    assert (await other.get("/v1/jobs")).json()["jobs"] == []
    assert (await other.get("/v1/jobs", params={"tenant": "a"})).json()["jobs"] == []
    assert (await other.get("/v1/batches", params={"tenant": "a"})).json()["batches"] == []
    assert [job["job_id"] for job in (await owner.get("/v1/jobs")).json()["jobs"]] == [job_id]
    assert [recorded.event.TOKEN for recorded in (await system.store.load(job_id)).history] == ["requested"]


async def test_a_revoked_or_expired_key_is_refused(anybody: httpx.AsyncClient, system: SimulatedSystem) -> None:
    key = await new_key(system, "a")
    user = await using(anybody, key)
    await system.store.handle(KEY, key.split("_")[1], RevokeKey(clock.now()))

    async def refused() -> bool:
        return (await user.get("/v1/jobs")).status_code == 401

    await eventually(refused, 1.0)
    expired = await new_key(system, "a", expires_at=clock.now() - timedelta(seconds=1))
    last = await using(anybody, await new_key(system, "a"))  # the gateway has read everything before it
    assert last
    for wrong in (expired, key[:-1] + "x", "forge_0000000000_" + "A" * 43, "-"):
        answer = await anybody.get("/v1/jobs", headers={"Authorization": f"Bearer {wrong}"})
        assert answer.status_code == 401


async def test_an_open_stream_ends_when_its_key_is_revoked_or_expires(
    anybody: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    key = await new_key(system, "a")
    user = await using(anybody, key)
    job_id = (await user.post("/v1/jobs", json={"prompt": "a"})).json()["job_id"]

    async def last_of(of: str) -> tuple[str, dict[str, Any]]:
        seen = [("", {})]
        headers = {"Authorization": f"Bearer {of}"}
        async with anybody.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as response:
            async for each in events(response):
                seen.append((each.event, each.data))
                if each.event == "requested" and of == key:
                    await system.store.handle(KEY, key.split("_")[1], RevokeKey(clock.now()))
        return seen[-1]

    for seconds in (None, 6):
        of = key
        if seconds is not None:
            of = await new_key(system, "a", expires_at=clock.now() + timedelta(seconds=seconds))
            await using(anybody, of)
        event, problem = await asyncio.wait_for(last_of(of), 20)
        assert (event, problem["status"]) == ("refused", 401)
        assert "revoked" in problem["detail"]


async def test_a_sign_in_is_small_and_soon(anybody: httpx.AsyncClient) -> None:
    url = anybody.base_url
    large = await anybody.post("/v1/session", json={"key": "x" * 5_000})
    assert large.status_code == 413
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = (
        "POST /v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )
    writer.write(head.encode())
    answer = await asyncio.wait_for(reader.readline(), 3 * PUBLIC_BODY_SECONDS)
    writer.close()
    assert answer.split()[1] == b"408"


async def test_a_key_with_an_unreadable_event_is_refused(anybody: httpx.AsyncClient, system: SimulatedSystem) -> None:
    key = await new_key(system, "a")
    user = await using(anybody, key)
    await system.bus.js.publish(f"forge.keys.{key.split('_')[1]}.revoked", b"{not json")

    async def refused() -> bool:
        return (await user.get("/v1/jobs")).status_code == 401

    await eventually(refused, 5.0)


async def test_a_session_is_a_cookie_that_only_its_own_page_can_use(
    anybody: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    key = await new_key(system, "a")
    await using(anybody, key)
    page = {"Origin": str(anybody.base_url), "Sec-Fetch-Site": "same-origin"}
    assert (await anybody.post("/v1/session", json={"key": key[:-1] + "x"}, headers=page)).status_code == 401
    signed_in = await anybody.post("/v1/session", json={"key": key}, headers=page)
    assert signed_in.json()["tenant"] == "a"
    cookie = signed_in.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert (await anybody.get("/v1/jobs")).status_code == 200
    beside = {"Cookie": f'layout={{"of": "another port"}}; flag; forge_session={key}'}
    assert (await anybody.get("/v1/jobs", headers=beside)).status_code == 200
    forged = await anybody.post("/v1/jobs", json=BODY, headers=page)
    assert (forged.status_code, forged.json()["code"]) == (403, "csrf_token_needed")
    assert "Forge-CSRF-Token" in forged.json()["detail"]
    assert (await anybody.delete("/v1/session", headers=page)).status_code == 403
    token = (await anybody.get("/v1/me")).json()["csrf_token"]
    assert token == signed_in.json()["csrf_token"]
    other = csrf_token(key[:-1] + "x")
    assert (await anybody.post("/v1/jobs", json=BODY, headers=page | {"Forge-CSRF-Token": other})).status_code == 403
    page |= {"Forge-CSRF-Token": token}
    assert (await anybody.post("/v1/jobs", json=BODY, headers=page)).status_code == 202
    assert (await anybody.post("/v1/jobs", json=BODY)).status_code == 401  # no page says that it asks
    assert (await anybody.post("/v1/jobs", json=BODY, headers={"Origin": "https://evil.example"})).status_code == 403
    assert (await anybody.delete("/v1/session", headers=page)).status_code == 204
    assert (await anybody.get("/v1/jobs")).status_code == 401


@pytest.mark.parametrize(
    ("host", "change", "refused"),
    [
        ("127.0.0.1", {}, False),
        ("0.0.0.0", {}, True),
        ("::", {}, True),
        ("192.168.1.7", {}, True),
        ("0.0.0.0", {"gateway_auth": "keys"}, False),
        ("0.0.0.0", {"gateway_unprotected": True}, False),
    ],
)
def test_a_network_is_answered_only_with_keys(host: str, change: dict[str, Any], refused: bool) -> None:
    if refused:
        with pytest.raises(InvalidSettings, match="dreamforge keys create"):
            read(GatewaySettings, _env_file=None, gateway_host=host, **change)
    else:
        read(GatewaySettings, _env_file=None, gateway_host=host, **change)


async def test_an_upload_is_seen_by_the_tenants_that_have_it(
    anybody: httpx.AsyncClient, system: SimulatedSystem
) -> None:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(out, "PNG")
    png = {"content": out.getvalue(), "headers": {"Content-Type": "image/png"}}
    owner = await using(anybody, await new_key(system, "a"))
    other = await using(anybody, await new_key(system, "b"))
    sha256 = (await owner.post("/v1/uploads", **png)).json()["sha256"]
    await system.register(MODEL.model_copy(update={"model_id": "sd", "family": "stable-diffusion"}))
    await eventually(lambda: models(owner), until=lambda found: len(found) == 2)
    body: dict[str, Any] = BODY | {"model_id": "sd"}
    from_image = body | {"init_image": sha256}

    assert (await owner.get(f"/v1/uploads/{sha256}")).content == png["content"]
    assert (await owner.post("/v1/jobs", json=from_image)).status_code == 202
    missing = "0" * 64
    for named in (sha256, missing):
        assert (await other.get(f"/v1/uploads/{named}")).status_code == 404
        for extra in ({}, {"resize_mode": "image_size"}):
            refused = await other.post("/v1/jobs", json=body | {"init_image": named} | extra)
            assert (refused.status_code, refused.json()["code"]) == (422, "unknown_upload")
    assert (await other.post("/v1/uploads", **png)).json()["sha256"] == sha256
    assert (await other.post("/v1/jobs", json=from_image)).status_code == 202
