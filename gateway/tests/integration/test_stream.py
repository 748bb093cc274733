"""A stream is the whole story of a job, once: whoever watches, from wherever, whatever happens on the way."""

import asyncio
import itertools
import random
import shutil
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from simulated_system import MODEL, Seen, SimulatedSystem, events, ready, running, watch

from dreamforge.contracts.events import ArtifactStored, StepProgressed
from dreamforge.contracts.log.envelope import seal
from dreamforge.contracts.log.streams import STEPS
from dreamforge.gateway.events import hub
from dreamforge.gateway.settings import GatewaySettings
from dreamforge.runtime import clock, ids
from dreamforge.runtime.embedded import NatsServer
from dreamforge.runtime.testing import eventually

pytestmark = pytest.mark.usefixtures("shared_gateway")
# All that is published fits: a reader on a busy machine is not cut off as a slow one, of which another test tells.
not_cut_off = pytest.mark.parametrize("change_settings", [{"gateway_stream_buffer_bytes": 2**24}])


def names(seen: list[Seen]) -> list[str]:
    return [each.event for each in seen]


async def burst(system: SimulatedSystem, job_id: str, first: int, count: int) -> None:
    """Many steps at once, acknowledged as a whole."""
    for number in range(first, first + count - 1):
        event = StepProgressed(
            at=clock.now(),
            attempt=1,
            image_index=0,
            images=1,
            step=number,
            steps=10**6,
            elapsed_seconds=1,
            eta_seconds=1,
        )
        envelope = seal(event, entity_id=job_id, event_id=ids.new_id(), source="/test")
        await system.bus.nc.publish(envelope.subject, envelope.data, headers=envelope.headers)
    await system.step(job_id, first + count - 1, steps=10**6)


async def test_history_then_live_to_the_end(client: httpx.AsyncClient, system: SimulatedSystem, submit: Any) -> None:
    job_id = await submit()
    await system.start(job_id)
    await system.step(job_id, 1)
    seen: list[Seen] = []
    async with client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        async for each in events(response):
            seen.append(each)
            if each.event == "step" and each.data["step"] == 1:  # history is told: now comes the rest
                await system.step(job_id, 2)
                version = await system.finish(job_id)
    assert names(seen) == ["requested", "assigned", "started", "step", "step", "artifact", "succeeded"]
    assert seen[0].data["type"] == "dreamforge.job.requested.v1"
    assert seen[0].data["job_id"] == job_id
    assert seen[0].data["request"]["prompt"] == "a red circle"
    assert seen[-1].data["sequence"] == version
    assert seen[-1].id.startswith(f"{version}-")
    assert all({"at", "attempt", "sequence", "type", "job_id"} <= each.data.keys() for each in seen)


async def test_a_client_that_has_the_last_event_gets_204(
    client: httpx.AsyncClient, system: SimulatedSystem, submit: Any
) -> None:
    job_id = await submit()
    await system.cancel(job_id)
    whole = await watch(client, job_id)
    assert names(whole) == ["requested", "cancel-requested", "cancelled"]
    response = await client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": whole[-1].id})
    assert (response.status_code, response.content) == (204, b"")
    resumed = await client.get(f"/v1/jobs/{job_id}/events", params={"last_event_id": whole[0].id})
    assert resumed.text.count("event: ") == 2


async def test_malformed_ids_are_refused(client: httpx.AsyncClient, submit: Any) -> None:
    job_id = await submit()
    for last_id in ("x", "1", "-1-2", "1-2-3", "9" * 20 + "-1", "1.5-2", "١-٢"):
        response = await client.get(f"/v1/jobs/{job_id}/events", params={"last_event_id": last_id})
        assert (response.status_code, response.json()["code"]) == (400, "malformed"), last_id


async def test_an_unknown_job_has_no_stream(client: httpx.AsyncClient) -> None:
    for job_id in (ids.new_id(), "nope", ">", "*"):
        response = await client.get(f"/v1/jobs/{job_id}/events")
        assert (response.status_code, response.json()["code"]) == (404, "job_not_found")


@pytest.mark.parametrize("change_settings", [{"gateway_heartbeat_seconds": 0.05}])
async def test_a_quiet_stream_is_kept_alive(client: httpx.AsyncClient, submit: Any) -> None:
    async with client.stream("GET", f"/v1/jobs/{await submit()}/events") as response:
        comments = 0
        async for line in response.aiter_lines():
            comments += line.startswith(":")
            if comments == 3:
                return


@not_cut_off
async def test_readers_that_break_and_resume_see_every_step_once(
    client: httpx.AsyncClient, system: SimulatedSystem, submit: Any
) -> None:
    """Many joins between history and live, while events arrive: the heart of the promise."""
    job_id = await submit()
    await system.start(job_id)
    total = 2_000

    async def read(seed: int) -> list[Seen]:
        chance = random.Random(seed)
        seen: list[Seen] = []
        while not seen or seen[-1].event != "cancelled":
            last_id = seen[-1].id if seen else ""
            seen += await watch(client, job_id, last_id, count=chance.choice([1, 40, 300, 10**9]))
        return seen

    readers = [asyncio.create_task(read(seed)) for seed in range(5)]
    for first in range(1, total, 100):
        await burst(system, job_id, first, 100)
    await system.cancel(job_id)
    for seen in await asyncio.gather(*readers):
        steps = [each.data["step"] for each in seen if each.event == "step"]
        assert steps == list(range(1, total + 1))
        facts = [each.data["sequence"] for each in seen if each.event != "step"]
        assert facts == sorted(set(facts))
        assert [name for name in names(seen) if name != "step"] == [
            "requested",
            "assigned",
            "started",
            "cancel-requested",
            "cancelled",
        ]


async def test_the_end_never_overtakes_the_last_steps(
    client: httpx.AsyncClient, system: SimulatedSystem, submit: Any
) -> None:
    for _ in range(10):
        job_id = await submit()
        await system.start(job_id)
        reader = asyncio.create_task(watch(client, job_id))
        await burst(system, job_id, 1, 50)
        await system.finish(job_id)
        seen = await reader
        assert names(seen) == ["requested", "assigned", "started", *["step"] * 50, "artifact", "succeeded"]


async def until_cut(client: socket.socket) -> bytes:
    """What is still in the sockets' buffers for a client that was cut off in the middle of its stream."""
    received = b""
    with client:
        while part := await asyncio.get_running_loop().sock_recv(client, 1 << 20):
            received += part
    assert not received.endswith(b"0\r\n\r\n"), "the stream was completed instead of cut"
    return received


@pytest.mark.parametrize("change_settings", [{"gateway_stream_buffer_bytes": 4096}])
async def test_a_slow_client_is_dropped_and_can_resume(
    client: httpx.AsyncClient, system: SimulatedSystem, submit: Any
) -> None:
    job_id = await submit()
    await system.start(job_id)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(slow, (client.base_url.host, client.base_url.port))
    await loop.sock_sendall(slow, f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await loop.sock_recv(slow, 20)  # it has begun, and now stops reading
    dropped = hub.DROPPED._value.get()
    large = {"recipe": "x" * 200_000}
    for index in range(60):  # 12 MB: more than all socket buffers between us
        event = ArtifactStored(
            at=clock.now(),
            attempt=1,
            index=index,
            sha256="a" * 64,
            size_bytes=1,
            content_type="image/png",
            width_px=8,
            height_px=8,
            seed=1,
            recipe=large,
        )
        await system.append(job_id, event)
    await eventually(lambda: hub.DROPPED._value.get() == dropped + 1)
    await eventually(lambda: hub.CLIENTS._value.get() == 0)
    received = await until_cut(slow)
    last_id = received.rpartition(b"\n\n")[0].rpartition(b"id: ")[2].split(b"\n")[0].decode() or "0-0"
    await system.cancel(job_id)
    rest = await watch(client, job_id, last_id)
    first = [each for each in await watch(client, job_id) if int(each.id.split("-")[0]) <= int(last_id.split("-")[0])]
    assert len(first) + len(rest) == 3 + 60 + 2


async def test_an_open_stream_survives_a_restart_of_nats(
    client: httpx.AsyncClient, system: SimulatedSystem, submit: Any, nats_server: NatsServer
) -> None:
    job_id = await submit()
    await system.start(job_id)
    await system.step(job_id, 1)
    seen: list[Seen] = []
    async with client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        async for each in events(response):
            seen.append(each)
            if each.event == "step" and each.data["step"] == 1:
                await restart(client, system, nats_server)
                await system.step(job_id, 2)
                await system.finish(job_id)
    assert names(seen) == ["requested", "assigned", "started", "step", "step", "artifact", "succeeded"]
    assert (await client.post("/v1/jobs", json={"prompt": "a"})).status_code == 202


@pytest.mark.parametrize("change_settings", [{"gateway_streams": 2}])
async def test_streams_past_the_bound_are_refused_until_one_ends(client: httpx.AsyncClient, submit: Any) -> None:
    url = f"/v1/jobs/{await submit()}/events"
    async with client.stream("GET", url):
        async with client.stream("GET", url):
            refused = await client.get(url)
            assert (refused.status_code, refused.json()["code"]) == (503, "streams_full")
            assert (refused.json()["maximum"], int(refused.headers["retry-after"]) > 0) == (2, True)

        async def open_again() -> int:
            async with client.stream("GET", url) as response:
                return response.status_code

        await eventually(open_again, until=lambda status: status == 200)


async def restart(client: httpx.AsyncClient, system: SimulatedSystem, nats_server: NatsServer) -> None:
    """Kill NATS, see what the gateway says meanwhile, and bring it back."""
    await nats_server.kill()
    await eventually(lambda: not system.bus.connected)
    away = await client.post("/v1/jobs", json={"prompt": "a"})
    assert (away.status_code, away.json()["code"]) == (503, "dependency_away")
    assert int(away.headers["retry-after"]) > 0
    assert away.elapsed.total_seconds() < 2

    async def said() -> bool:  # "ready" is remembered for a second
        return bool((await client.get("/readyz")).json()["checks"]["nats"] != "ok")

    await eventually(said, 5)
    assert (await client.get("/healthz")).status_code == 200
    await nats_server.restart()
    await eventually(lambda: system.bus.connected)
    await ready(client)


@not_cut_off
async def test_progress_goes_on_when_the_log_of_steps_has_lost_its_end(
    client: httpx.AsyncClient, system: SimulatedSystem, submit: Any, nats_server: NatsServer
) -> None:
    """Steps are not fsynced: a broker that is killed may forget some, and then gives their numbers once more."""
    job_id = await submit()
    await system.start(job_id)
    await burst(system, job_id, 1, 1_000)
    async with client.stream("GET", f"/v1/jobs/{job_id}/events") as open_all_the_time:
        told = events(open_all_the_time)
        last_id = [(await anext(told)).id for _ in range(3 + 1_000)][-1]
        await nats_server.kill()
        shutil.rmtree(next(nats_server.folder.rglob(f"{STEPS.name}/msgs")))
        await nats_server.restart()
        await eventually(lambda: system.bus.connected)
        await ready(client)
        headers = {"Last-Event-ID": last_id}
        async with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as resumed:
            streams = told, events(resumed)
            for stream in streams:
                first = await seen_after(stream, system, job_id)
                assert (first.event, first.data["step"] > 1_000, first.data["sequence"] < 1_000) == ("step", True, True)
            await system.finish(job_id)
            for stream in streams:
                rest = [each async for each in stream]
                assert [each.event for each in rest if each.event != "step"] == ["artifact", "succeeded"]
                places = [each.data["sequence"] for each in rest if each.event == "step"]
                assert places == sorted(set(places))


async def seen_after(stream: AsyncIterator[Seen], system: SimulatedSystem, job_id: str) -> Seen:
    """The next event of a stream; a step more is made until it comes, for those at the moment of a loss are lost."""
    seen = asyncio.ensure_future(anext(stream))
    steps = itertools.count(1_001)

    async def another() -> bool:
        await system.step(job_id, next(steps), steps=10**6)
        return seen.done()

    await eventually(another)
    return await seen


async def test_a_stopping_gateway_sends_its_clients_away_and_another_one_goes_on(
    system: SimulatedSystem, settings: GatewaySettings
) -> None:
    await system.register(MODEL)
    async with (
        running(settings) as (first_url, stop),
        running(settings) as (second_url, _),
        httpx.AsyncClient(base_url=first_url) as first,
        httpx.AsyncClient(base_url=second_url) as second,
    ):
        await ready(first)
        await ready(second)
        job_id = (await first.post("/v1/jobs", json={"prompt": "a"})).json()["job_id"]
        lines: list[str] = []
        async with first.stream("GET", f"/v1/jobs/{job_id}/events") as response:
            async for line in response.aiter_lines():
                lines.append(line)
                if line.startswith("data: "):
                    stop.set()
        assert any(line.startswith("retry: ") for line in lines)
        last_id = next(line for line in lines if line.startswith("id: "))[4:]
        await system.cancel(job_id)
        assert names(await watch(second, job_id, last_id)) == ["cancel-requested", "cancelled"]
