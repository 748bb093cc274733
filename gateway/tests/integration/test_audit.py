"""Audit: who did what, and from where, without a word of prompts and secrets, for admins only, and bounded."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from simulated_system import BODY, SimulatedSystem, ready, running
from test_access import new_key, using

from dreamforge.contracts.access import Scope
from dreamforge.gateway.settings import GatewaySettings
from dreamforge.runtime.testing import eventually

ADMIN = frozenset((Scope.ADMIN,))


@pytest.fixture
def change_settings() -> dict[str, object]:
    return {"gateway_auth": "keys", "gateway_trusted_proxies": "127.0.0.1"}


@pytest.fixture
async def anybody(system: SimulatedSystem, settings: GatewaySettings) -> AsyncIterator[httpx.AsyncClient]:
    assert system
    async with running(settings) as (url, _), httpx.AsyncClient(base_url=url, timeout=20) as client:
        await ready(client)
        yield client


async def test_the_audit_says_who_did_what_from_where(anybody: httpx.AsyncClient, system: SimulatedSystem) -> None:
    key, admin_key = await new_key(system, "a"), await new_key(system, "ops", ADMIN)
    user, admin = await using(anybody, key), await using(anybody, admin_key)
    user_id, admin_id = key.split("_")[1], admin_key.split("_")[1]

    async def audit(**query: Any) -> list[dict[str, Any]]:
        """Every entry, read in small pages."""
        found: list[dict[str, Any]] = []
        while True:
            page = (await admin.get("/v1/audit", params={"limit": 3} | query)).json()
            found += page["entries"]
            if not page["more"]:
                return found
            query["cursor"] = page["next_cursor"]

    said = {"X-Forwarded-For": "203.0.113.7", "User-Agent": "curl/8"}
    job_id = (await user.post("/v1/jobs", json=BODY, headers=said)).json()["job_id"]
    await admin.post(f"/v1/jobs/{job_id}/cancel")
    await system.insert_job(job_id, tenant="a")
    await admin.get(f"/v1/jobs/{job_id}")
    for _ in range(30):
        assert (await anybody.get("/v1/me", headers={"Authorization": f"Bearer {key[:-1]}~"})).status_code == 401
    await user.post("/v1/queue/hold", json={"tenant": "a"})
    assert (await user.get("/v1/audit")).status_code == 403

    async def kinds() -> set[str]:
        return {entry["action"].removeprefix("dreamforge.").removesuffix(".v1") for entry in await audit()}

    expected = {
        "key.created", "job.requested", "job.cancel-requested", "queue.held",
        "audit.address-first-used", "audit.tenant-read", "audit.credential-refused",
    }  # fmt: skip
    await eventually(kinds, until=lambda found: found >= expected)
    entries = await audit()
    assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)
    places = [(entry["stream"], entry["sequence"]) for entry in entries]
    assert len(places) == len(set(places))
    by = {entry["action"]: entry for entry in entries}
    requested, cancelled = by["dreamforge.job.requested.v1"], by["dreamforge.job.cancel-requested.v1"]
    actor = requested["actor"]
    assert (actor["kind"], actor["id"], actor["tenant"]) == ("api_key", user_id, "a")
    assert (actor["address"], actor["user_agent"]) == ("203.0.113.7", "curl/8")
    assert (cancelled["tenant"], cancelled["entity_id"], cancelled["actor"]["id"]) == ("a", job_id, admin_id)
    read = by["dreamforge.audit.tenant-read.v1"]
    assert (read["tenant"], read["details"], read["actor"]["id"]) == ("a", {"job_id": job_id}, admin_id)
    assert len([each for each in entries if each["action"].startswith("dreamforge.audit.credential-refused")]) == 1
    addresses = {each["actor"]["address"] for each in entries if "address-first-used" in each["action"]}
    assert addresses == {"127.0.0.1", "203.0.113.7"}
    text = str(entries)
    assert BODY["prompt"] not in text
    assert key.split("_")[2] not in text
    assert {entry["actor"]["id"] for entry in await audit(actor=admin_id)} == {admin_id}
    assert {entry["entity_id"] for entry in await audit(tenant="nobodys")} == set()
    assert (await admin.get("/v1/audit", params={"cursor": "x"})).status_code == 422
    await user.aclose()
    await admin.aclose()
