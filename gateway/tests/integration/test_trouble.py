"""The gateway answers whatever is away, says so, and comes back by itself."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import httpx
from simulated_system import BODY, MODEL, SimulatedSystem, events, models, ready, running, settings_of

from dreamforge.gateway.http.server import listen
from dreamforge.runtime.embedded import NatsServer, PostgresServer, S3Server
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.streams import open_log
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.streams import declare_streams


def away_env() -> dict[str, str]:
    """Addresses where nobody is."""
    return {
        "FORGE_NATS_URL": f"nats://127.0.0.1:{free_port()}",
        "FORGE_NATS_ALLOW_UNSYNCED": "true",
        "FORGE_DATABASE_URL": f"postgresql://forge@127.0.0.1:{free_port()}/forge",
        "FORGE_S3_ENDPOINT": f"127.0.0.1:{free_port()}",
        "FORGE_S3_SECRET_KEY": "nobody knows",
    }


async def test_with_nothing_there_it_answers_and_says_what_is_missing() -> None:
    async with running(settings_of(away_env())) as (url, _), httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        not_ready = await client.get("/readyz")
        assert not_ready.status_code == 503
        assert not_ready.json()["checks"].keys() == {"nats", "postgres", "log", "s3"}
        assert all(reason != "ok" for reason in not_ready.json()["checks"].values())
        for method, path in (
            ("POST", "/v1/jobs"),
            ("GET", "/v1/jobs"),
            ("GET", "/v1/models"),
            ("GET", "/v1/runners"),
            ("GET", "/v1/jobs/0198a0c4-5f00-7abc-8def-0123456789ab"),
            ("GET", "/v1/jobs/0198a0c4-5f00-7abc-8def-0123456789ab/events"),
            ("GET", "/v1/artifacts/0198a0c4-5f00-7abc-8def-0123456789ab-1-0"),
        ):
            response = await client.request(method, path, json=BODY if method == "POST" else None)
            assert (response.status_code, response.json()["code"]) == (503, "dependency_away"), path
            assert int(response.headers["retry-after"]) > 0
            assert "127.0.0.1" not in response.text
        for path in ("/", "/docs", "/openapi.json", "/metrics"):
            assert (await client.get(path)).status_code == 200


async def s3_check(client: httpx.AsyncClient) -> str:
    """What is said of S3 now; "ready" is remembered for a second."""
    return str((await client.get("/readyz")).json()["checks"]["s3"])


async def requested(client: httpx.AsyncClient) -> str:
    """A job; its id."""
    return str((await client.post("/v1/jobs", json=BODY)).json()["job_id"])


async def test_it_becomes_ready_by_itself_and_survives_each_loss(tmp_path: Path, database_url: str) -> None:
    """Servers of its own, started after the gateway, then killed and restarted one by one."""
    from dreamforge import migrations

    nats, postgres, s3 = (
        NatsServer(tmp_path / "n", port=free_port(), streams=True),
        PostgresServer(tmp_path / "p", port=free_port(), fsync=False),
        S3Server(tmp_path / "s"),
    )
    # Addresses and secrets are known once a server has run; then it is stopped again.
    for server in (nats, postgres, s3):
        await server.start()
    await asyncio.to_thread(migrations.upgrade, postgres.url)
    env = nats.settings_env() | postgres.settings_env() | s3.settings_env()
    for server in (nats, postgres, s3):
        await server.stop()
    settings = settings_of(env)
    async with running(settings) as (url, _), httpx.AsyncClient(base_url=url, timeout=20) as client:
        assert (await client.get("/readyz")).status_code == 503
        try:
            for server in (nats, postgres, s3):
                await server.start()
            await ready(client)
            bus = await open_log(settings, "test")
            system = SimulatedSystem(settings, bus, EventStore(bus, "/test"))
            await system.register(MODEL)
            await eventually(lambda: models(client))
            job_id = (await client.post("/v1/jobs", json=BODY)).json()["job_id"]
            await system.insert_job(job_id)

            async with client.stream("GET", "/v1/events") as response:
                told = events(response)
                first = await requested(client)
                await system.project(first)
                assert (await anext(told)).data["job_id"] == first
                await postgres.kill()
                away = [await requested(client) for _ in range(2)]
                await postgres.restart()
                await ready(client)
                for each in away:
                    await system.project(each)
                after = [await anext(told) for _ in away]
                assert [each.data["job_id"] for each in after] == away, "on the same connection, each once"
            for place, seen in enumerate(after):  # and for one that comes back with what it saw last
                async with client.stream("GET", "/v1/events", headers={"Last-Event-ID": seen.id}) as response:
                    last = await requested(client)
                    await system.project(last)
                    rest = [*away[place + 1 :], last]
                    resumed = events(response)
                    assert [(await anext(resumed)).data["job_id"] for _ in rest] == rest
                    away.append(last)

            await postgres.kill()
            lost = await client.get(f"/v1/jobs/{job_id}")
            assert (lost.status_code, lost.json()["dependency"]) == (503, "postgres")
            assert (await client.post("/v1/jobs", json=BODY)).status_code == 202  # the log is enough to accept
            await postgres.restart()
            await ready(client)
            assert (await client.get(f"/v1/jobs/{job_id}")).status_code == 200
            written = await client.post("/v1/jobs", json=BODY)
            sequence = written.headers["forge-sequence"]
            waiting = asyncio.create_task(client.get("/v1/jobs", headers={"Forge-Min-Sequence": sequence}))
            await system.project_to(int(sequence))  # the notices are heard again too
            assert (await waiting).status_code == 200

            await s3.kill()
            assert await eventually(lambda: s3_check(client), 5, until=lambda found: found != "ok")
            await s3.restart()
            await ready(client)
            await bus.nc.close()
        finally:
            for server in (nats, postgres, s3):
                await server.stop()


async def test_tables_that_are_missing_are_said(nats_server: NatsServer, empty_database_url: str) -> None:
    await declare_streams(nats_server.url)
    env = away_env() | nats_server.settings_env() | {"FORGE_DATABASE_URL": empty_database_url}
    async with running(settings_of(env)) as (url, _), httpx.AsyncClient(base_url=url) as client:
        checks = (await client.get("/readyz")).json()["checks"]
        assert "migrate" in checks["postgres"]
        assert (await client.get("/v1/jobs")).json()["dependency"] == "postgres"


async def test_a_port_in_use_is_one_clear_line_and_exit_1() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "dreamforge.gateway",
            env=os.environ | away_env() | {"FORGE_GATEWAY_PORT": str(port)},
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await asyncio.wait_for(process.communicate(), 60)
    lines = said.decode().strip().splitlines()
    assert process.returncode == 1
    assert len(lines) == 1
    assert f"127.0.0.1:{port}" in lines[0]
    assert "FORGE_GATEWAY_PORT" in lines[0]


async def test_sigterm_ends_the_process_with_0() -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "dreamforge.gateway",
        env=os.environ | away_env() | {"FORGE_GATEWAY_PORT": str(port)},
        stderr=asyncio.subprocess.PIPE,
    )
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:

        async def answers() -> bool:
            try:
                return (await client.get("/healthz")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(answers, 60)
    process.send_signal(signal.SIGTERM)
    _, said = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 0, said.decode()
    assert "Traceback" not in said.decode()


async def test_bytes_that_are_not_http_get_a_problem_document() -> None:
    async with running(settings_of(away_env())) as (url, _):
        port = httpx.URL(url).port
        for garbage in (b"hello\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n", b"GET http://[ HTTP/1.1\r\n\r\n"):
            with socket.socket() as client:
                client.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(client, ("127.0.0.1", port))
                await loop.sock_sendall(client, garbage)
                answer = await asyncio.wait_for(loop.sock_recv(client, 4096), 5)
            assert answer.startswith(b"HTTP/1.1 400"), (garbage, answer)
            assert b"application/problem+json" in answer
