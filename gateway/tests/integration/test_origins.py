"""A page of another site can neither change nor read anything here, whatever name it gave this address."""

import httpx
import pytest
from simulated_system import BODY

pytestmark = pytest.mark.usefixtures("shared_gateway")

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize("host", ["rebound.example", "rebound.example:8080", "127.0.0.1.evil.example", "a:b:c", ""])
async def test_a_foreign_host_name_reads_nothing(client: httpx.AsyncClient, host: str) -> None:
    for path in ("/v1/jobs", "/", "/openapi.json", "/metrics"):
        answer = await client.get(path, headers={"Host": host})
        assert (answer.status_code, answer.json()["code"]) == (421, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "[::1]:8080", "10.1.2.3", "studio.localhost"])
async def test_addresses_and_local_names_are_answered(client: httpx.AsyncClient, host: str) -> None:
    assert (await client.get("/healthz", headers={"Host": host})).status_code == 200


@pytest.mark.parametrize("change_settings", [{"gateway_hosts": "Forge.example.org"}])
async def test_a_configured_name_is_answered(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz", headers={"Host": "forge.EXAMPLE.org:443"})).status_code == 200
    assert (await client.get("/healthz", headers={"Host": "example.org"})).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://["},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
    ],
)
async def test_another_origin_changes_nothing(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    for path in ("/v1/jobs", "/v1/uploads", "/v1/queue/hold"):
        answer = await client.post(path, json=BODY, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "cross_origin")
        assert "access-control-allow-origin" not in answer.headers
    read = await client.get("/v1/jobs", headers=headers)
    assert read.json()["jobs"] == []
    assert "access-control-allow-origin" not in read.headers
    assert read.headers["cross-origin-resource-policy"] == "same-origin"


async def test_the_studio_and_programs_are_let_in(client: httpx.AsyncClient) -> None:
    own = str(client.base_url)
    for headers in ({"Origin": own, "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {}):
        assert (await client.post("/v1/jobs", json=BODY, headers=headers)).status_code == 202


@pytest.mark.parametrize("change_settings", [{"gateway_origins": "https://tools.example.org"}])
async def test_a_configured_origin_may_use_the_api(client: httpx.AsyncClient) -> None:
    origin = {"Origin": "https://tools.example.org"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    preflight = await client.options("/v1/jobs", headers=origin | asked)
    assert preflight.headers["access-control-allow-origin"] == origin["Origin"]
    answer = await client.post("/v1/jobs", json=BODY, headers=origin)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (202, origin["Origin"])
    readable = answer.headers["access-control-expose-headers"].split(", ")
    assert {"Forge-Sequence", "Forge-Log"}.issubset(readable), "a read after this write needs both"
    other = await client.options("/v1/jobs", headers=asked | {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("content_type", [FORM["Content-Type"], "text/plain", "multipart/form-data", ""])
async def test_what_a_form_can_send_is_not_taken_for_json(client: httpx.AsyncClient, content_type: str) -> None:
    for path in ("/v1/jobs", "/v1/queue/hold"):
        headers = {"Content-Type": content_type} if content_type else {}
        answer = await client.post(path, content=b'{"prompt": "a"}', headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")
