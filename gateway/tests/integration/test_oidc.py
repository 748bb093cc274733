"""OpenID Connect with a real provider: bearer tokens, rotated keys, a provider that fails, the studio's sign-in."""

from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from pydantic import SecretStr
from simulated_system import BODY, SimulatedSystem, ready, running
from system_testkit.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider, oidc_provider
from test_access import new_key, using

from dreamforge.gateway.settings import GatewaySettings
from dreamforge.runtime.testing import eventually

SESSION_SECRET, OTHER_SECRET = SecretStr("s" * 32), SecretStr("o" * 32)


@pytest.fixture
async def provider() -> AsyncIterator[OidcProvider]:
    async with oidc_provider() as running_provider:
        yield running_provider


@pytest.fixture
def oidc_settings(settings: GatewaySettings, provider: OidcProvider) -> GatewaySettings:
    own = {
        "gateway_auth": "keys,oidc",
        "oidc_issuer": provider.issuer,
        "oidc_client_id": CLIENT_ID,
        "oidc_client_secret": SecretStr(CLIENT_SECRET),
        "oidc_roles": "ops=admin",
        "gateway_session_secret": SESSION_SECRET,
    }
    return settings.model_copy(update=own)


@pytest.fixture
async def anybody(system: SimulatedSystem, oidc_settings: GatewaySettings) -> AsyncIterator[httpx.AsyncClient]:
    assert system
    async with running(oidc_settings) as (url, _), httpx.AsyncClient(base_url=url, timeout=20) as client:
        await ready(client)
        yield client


async def test_tokens_and_keys_stand_for_tenants(
    anybody: httpx.AsyncClient, system: SimulatedSystem, provider: OidcProvider
) -> None:
    def bearing(token: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {token}"}

    a, b = (bearing(provider.token(sub=name, tenant=f"studio-{name}")) for name in "ab")
    me = (await anybody.get("/v1/me", headers=a)).json()
    assert (me["tenant"], me["subject"], me["scopes"], me["csrf_token"]) == ("studio-a", "a", ["read", "submit"], None)
    job_id = (await anybody.post("/v1/jobs", json=BODY, headers=a)).json()["job_id"]
    assert (await system.store.load(job_id)).state.tenant == "studio-a"
    await system.insert_job(job_id, tenant="studio-a")
    for method, path in (("GET", ""), ("GET", "/why"), ("GET", "/events"), ("POST", "/cancel"), ("POST", "/hold")):
        assert (await anybody.request(method, f"/v1/jobs/{job_id}{path}", headers=b)).status_code == 404
    assert (await anybody.get("/v1/jobs", headers=b)).json()["jobs"] == []
    assert (await anybody.get("/metrics", headers=a)).status_code == 403
    assert (await anybody.get("/metrics", headers=bearing(provider.token(roles=["ops"])))).status_code == 200
    keyed = await using(anybody, await new_key(system, "studio-a"))
    assert [job["job_id"] for job in (await keyed.get("/v1/jobs")).json()["jobs"]] == [job_id]
    await keyed.aclose()

    refused = await anybody.get("/v1/me", headers=bearing(provider.token(aud="others")))
    assert (refused.status_code, refused.json()["code"]) == (401, "token_refused")
    assert (await anybody.get("/v1/me", headers={"Cookie": f"forge_session={provider.token()}"})).status_code == 401

    # Keys change: the new one is fetched when a token names it. While the provider fails, the last good ones stay.
    old = bearing(provider.token(jti="of the old key"))
    provider.rotate()
    fetches = provider.fetches

    async def new_key_is_known() -> bool:
        return (await anybody.get("/v1/me", headers=bearing(provider.token()))).status_code == 200

    await eventually(new_key_is_known, 20)
    assert (await anybody.get("/v1/me", headers=old)).status_code == 401
    provider.fails = True
    stranger = OidcProvider(provider.issuer)
    for _ in range(20):
        assert (await anybody.get("/v1/me", headers=bearing(stranger.token()))).status_code == 401
    assert (await anybody.get("/v1/me", headers=bearing(provider.token(jti="while it fails")))).status_code == 200
    assert provider.fetches <= fetches + 4


async def test_the_studio_signs_in_and_out(
    anybody: httpx.AsyncClient, provider: OidcProvider, oidc_settings: GatewaySettings
) -> None:
    base = str(anybody.base_url).rstrip("/")
    provider.redirect_uris.add(f"{base}/v1/session/oidc/callback")
    assert (await anybody.get("/v1/session")).json() == {"keys": True, "oidc": "/v1/session/oidc"}

    async def known() -> bool:
        return "sign_in" not in (await anybody.get("/v1/session/oidc")).headers["location"]

    await eventually(known, 20)  # the gateway has read the provider
    # Somebody planted a session: it is not the one that is used afterwards.
    anybody.cookies.set("forge_session", "planted", domain="127.0.0.1", path="/")
    began = await anybody.get("/v1/session/oidc")
    asked = parse_qs(urlsplit(began.headers["location"]).query)
    assert {"state", "nonce", "code_challenge"} <= asked.keys()
    pending = began.headers["set-cookie"].lower()
    assert "httponly" in pending
    assert "samesite=lax" in pending
    callback = (await anybody.get(began.headers["location"])).headers["location"]
    ended = await anybody.get(callback)
    assert (ended.status_code, ended.headers["location"]) == (303, "/")
    cookie = next(each for each in ended.headers.get_list("set-cookie") if each.startswith("forge_session=")).lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    me = (await anybody.get("/v1/me")).json()
    assert (me["subject"], me["tenant"]) == ("ann", "studio-a")

    # The same answer of the provider once more, and one that another browser began, are refused.
    session = anybody.cookies["forge_session"]
    for cookies in ({}, {"forge_sign_in": began.cookies["forge_sign_in"]}, {"forge_sign_in": "x"}):
        async with httpx.AsyncClient(base_url=base, cookies=cookies) as other:
            again = await other.get(callback)
            assert again.headers["location"] in ("/?sign_in=expired", "/?sign_in=refused")
            assert "forge_session" not in again.cookies
    denied = await anybody.get("/v1/session/oidc/callback", params={"error": "denied", "state": "//evil.example"})
    assert denied.headers["location"] == "/?sign_in=refused"

    page = {"Origin": base, "Forge-CSRF-Token": me["csrf_token"]}
    assert (await anybody.post("/v1/jobs", json=BODY, headers={"Origin": base})).status_code == 403
    assert (await anybody.post("/v1/jobs", json=BODY, headers=page)).status_code == 202
    # Another gateway with the same secret knows the session; one with other rules does not.
    same = {"Cookie": f"forge_session={session}"}
    for change, status in (
        ({}, 200),
        ({"oidc_roles": ""}, 401),
        ({"gateway_session_secret": OTHER_SECRET}, 401),
    ):
        async with (
            running(oidc_settings.model_copy(update=change)) as (url, _),
            httpx.AsyncClient(base_url=url) as next_,
        ):
            await ready(next_)
            assert (await next_.get("/v1/me", headers=same)).status_code == status
            assert (await next_.get("/v1/me", headers={"Authorization": f"Bearer {session}"})).status_code in (401, 503)
    assert (await anybody.delete("/v1/session", headers=page)).status_code == 204
    assert (await anybody.get("/v1/me")).status_code == 401
