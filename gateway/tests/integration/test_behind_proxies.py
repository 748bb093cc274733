"""The proxies of deploy/proxies as they are, but for names, ports and certificates, before a gateway."""

import asyncio
import contextlib
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from simulated_system import BODY

from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.testing import eventually

PROXIES = Path(__file__).parents[3] / "deploy" / "proxies"
NAME = "forge.example.org"
MANY_BYTES = 3 * 2**20  # more than nginx takes by default

pytestmark = pytest.mark.parametrize("change_settings", [{"gateway_hosts": NAME, "gateway_heartbeat_seconds": 0.3}])


def nginx(folder: Path, port: int, gateway: str) -> list[str]:
    site = (PROXIES / "nginx.conf").read_text()
    site = re.sub(r"(?m)^\s*ssl_certificate.*$", "", site.replace("listen 443 ssl;", f"listen 127.0.0.1:{port};"))
    site = site.replace("127.0.0.1:8080", gateway)
    kept = "".join(
        f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = f"pid {folder}/pid;\nerror_log stderr;\ndaemon off;\nevents {{}}\nhttp {{\naccess_log off;\n{kept}{site}}}\n"
    (folder / "nginx.conf").write_text(main)
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, port: int, gateway: str) -> list[str]:
    site = (PROXIES / "Caddyfile").read_text().replace("127.0.0.1:8080", gateway)
    site = site.replace(f"\n{NAME} {{", f"\nhttp://{NAME}:{port} {{\n\tbind 127.0.0.1", 1)
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n\tauto_https off\n}}\n{site}")
    return ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


@pytest.fixture(params=[nginx, caddy], ids=["nginx", "caddy"])
async def proxied(
    request: pytest.FixtureRequest, client: httpx.AsyncClient, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    """A client that reaches the gateway through the proxy, by its name."""
    command = request.param(tmp_path, port := free_port(), client.base_url.netloc.decode())
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    environment = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=asyncio.subprocess.DEVNULL)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers={"Host": NAME}) as found:

            async def answers() -> bool:
                with contextlib.suppress(httpx.HTTPError):
                    return (await found.get("/healthz")).status_code == 200
                return False

            await eventually(answers)
            yield found
    finally:
        process.terminate()
        await process.wait()


async def test_a_job_is_submitted_watched_as_it_goes_and_read(proxied: httpx.AsyncClient) -> None:
    accepted = await proxied.post("/v1/jobs", json=BODY)
    assert accepted.status_code == 202
    job_id = accepted.json()["job_id"]
    async with proxied.stream("GET", f"/v1/jobs/{job_id}/events", timeout=5) as stream, asyncio.timeout(5):
        lines = stream.aiter_lines()
        assert [line async for line in _until(lines, "event: requested")]
        assert [
            line async for line in _until(lines, ":")
        ]  # a heartbeat, while nothing else is sent: nothing is held back
    assert (await proxied.get("/v1/models")).json()["models"]


async def _until(lines: AsyncIterator[str], begin: str) -> AsyncIterator[str]:
    async for line in lines:
        yield line
        if line.startswith(begin):
            return


async def test_a_body_is_refused_by_the_gateway_and_not_by_the_proxy(proxied: httpx.AsyncClient) -> None:
    answer = await proxied.post("/v1/uploads", content=b"x" * MANY_BYTES, headers={"Content-Type": "image/png"})
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("application/problem+json")


async def test_another_name_is_refused(proxied: httpx.AsyncClient) -> None:
    answer = await proxied.get("/v1/jobs", headers={"Host": "evil.example.org"})
    assert answer.status_code != 200 or not answer.content
