"""HEAD, a prefix, idle connections, parameters given twice: what proxies and clients may expect of HTTP."""

import asyncio
import io
import re
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image
from simulated_system import BODY, SimulatedSystem, ready, running

from dreamforge.gateway.events.hub import CLIENTS
from dreamforge.gateway.settings import GatewaySettings
from dreamforge.runtime.testing import eventually

pytestmark = pytest.mark.usefixtures("shared_gateway")

Submit = Callable[..., Awaitable[str]]
ROOT = "/tools/forge"


def picture() -> bytes:
    out = io.BytesIO()
    Image.effect_mandelbrot((24, 16), (-2, -1.5, 1, 1.5), 20).save(out, "PNG")
    return out.getvalue()


async def test_head_answers_wherever_get_does(
    client: httpx.AsyncClient, submit: Submit, system: SimulatedSystem
) -> None:
    job_id = await submit()
    await system.insert_job(job_id)
    document = (await client.get("/openapi.json")).json()
    pages = ["/", "/docs", "/openapi.json", "/asyncapi", "/asyncapi.json", "/favicon.ico", "/nothing"]
    paths = [path for path, methods in document["paths"].items() if "get" in methods]
    streams = {"/v1/jobs/{job_id}/events", "/v1/events"}
    assert streams <= {*paths}
    for template in [*paths, *pages]:
        path = re.sub(r"\{\w+\}", job_id, template)
        async with asyncio.timeout(10):
            head = await client.head(path)
        assert head.content == b""
        if template in streams:
            assert (head.status_code, head.headers["content-type"][:17]) == (200, "text/event-stream")
            continue
        whole = await client.get(path)
        assert (head.status_code, head.headers["content-type"]) == (whole.status_code, whole.headers["content-type"])
        assert "content-length" in head.headers, path
    assert (await client.head("/v1/jobs/x/cancel")).status_code == 405


async def test_a_stream_that_was_only_asked_for_its_head_is_closed(client: httpx.AsyncClient, submit: Submit) -> None:
    job_id = await submit()
    for _ in range(3):
        for path in (f"/v1/jobs/{job_id}/events", "/v1/events"):
            assert (await client.head(path)).status_code == 200
    await eventually(lambda: CLIENTS._value.get() == 0)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/jobs?limit=1&limit=2", "limit"),
        ("/v1/jobs?limit=1&status=queued&%6Cimit=", "limit"),
        ("/v1/presets?model_id=m&model_id=m", "model_id"),
        ("/healthz?x&x", "x"),
    ],
)
async def test_a_parameter_that_is_given_twice_is_refused(client: httpx.AsyncClient, path: str, name: str) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"] == [{"parameter": name, "detail": "is given 2 times, and must be given once"}]
    assert answer.headers["x-request-id"] == answer.json()["request_id"]


async def test_so_is_a_header_of_ours(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json=BODY, headers=[("Forge-Tenant", "a"), ("Forge-Tenant", "b")])
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["parameter"] == "forge-tenant"


def links_in(value: Any) -> list[str]:
    """Every text of a reply that is a path of ours."""
    if isinstance(value, dict):
        return [link for each in value.values() for link in links_in(each)]
    if isinstance(value, list):
        return [link for each in value for link in links_in(each)]
    return [value] if isinstance(value, str) and re.match(r"/([\w/]*/)?(v1|docs)\b", value) else []


@pytest.mark.parametrize("change_settings", [{"gateway_root_path": f"{ROOT}/"}])
@pytest.mark.parametrize("cut", [False, True], ids=["the proxy passes the prefix on", "the proxy cuts it off"])
async def test_every_link_has_the_prefix(system: SimulatedSystem, settings: GatewaySettings, *, cut: bool) -> None:
    """A client follows each link as a browser does: from the address that it sees, through the proxy."""

    def through_proxy(seen: str) -> str:
        return seen.removeprefix(ROOT) if cut else seen

    async with running(settings) as (url, _), httpx.AsyncClient(base_url=url, timeout=20) as client:
        await ready(client)
        accepted = await client.post(through_proxy(f"{ROOT}/v1/jobs"), json=BODY)
        job_id = accepted.json()["job_id"]
        await system.insert_job(job_id)
        await system.insert_artifact(job_id)
        assert accepted.headers["location"] == f"{ROOT}/v1/jobs/{job_id}"
        job = await client.get(through_proxy(accepted.headers["location"]))
        kept = await client.post(
            through_proxy(f"{ROOT}/v1/uploads"), content=picture(), headers={"Content-Type": "image/png"}
        )
        found = [accepted, job, kept, await client.get(through_proxy(f"{ROOT}/v1/jobs")), await client.get("/v1/no")]
        links = [link for each in found for link in links_in(each.json())]
        assert len(links) > 10
        assert {link[: len(ROOT) + 1] for link in links} == {f"{ROOT}/"}
        document = (await client.get(through_proxy(f"{ROOT}/openapi.json"))).json()
        assert [each["url"] for each in document["servers"]] == [ROOT]
        async with client.stream("GET", through_proxy(f"{ROOT}/v1/jobs/{job_id}/events")) as events:
            assert events.status_code == 200


@pytest.mark.parametrize("change_settings", [{"gateway_root_path": ROOT}])
async def test_pages_use_relative_addresses_and_end_where_these_are_right(client: httpx.AsyncClient) -> None:
    redirect = await client.get(ROOT)
    assert (redirect.status_code, redirect.headers["location"]) == (308, f"{ROOT}/")
    for page in ("/", "/docs", "/asyncapi"):
        text = (await client.get(f"{ROOT}{page}")).text
        absolute = re.findall(r"""(?:href|src|action)=["']?/[\w/]*|["'`(]/v1/""", text)
        assert not absolute, page


async def test_without_a_prefix_the_document_names_the_origin(client: httpx.AsyncClient) -> None:
    assert (await client.get("/openapi.json")).json()["servers"][0]["url"] == "/"


@pytest.mark.parametrize("change_settings", [{"gateway_keep_alive_seconds": 1}])
async def test_an_idle_connection_is_kept_as_long_as_the_setting_says(
    system: SimulatedSystem, settings: GatewaySettings
) -> None:
    del system
    async with running(settings) as (url, _):
        reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"}")
        began = asyncio.get_running_loop().time()
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        assert 0.5 < asyncio.get_running_loop().time() - began < 5
        writer.close()


def test_the_default_is_longer_than_that_of_usual_proxies() -> None:
    assert GatewaySettings.model_fields["gateway_keep_alive_seconds"].default > 60


async def test_every_time_is_in_utc(client: httpx.AsyncClient, system: SimulatedSystem, submit: Submit) -> None:
    job_id = await submit()
    await system.insert_job(job_id)
    await system.insert_artifact(job_id)
    for path in (f"/v1/jobs/{job_id}", "/v1/jobs"):
        times = re.findall(r'"\d{4}-\d\d-\d\dT[^"]*"', (await client.get(path)).text)
        assert times
        assert [time for time in times if not time.endswith('Z"')] == []
