"""The production example of NATS does what it says: three servers, any one of which may be lost."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from nats.js.api import StreamConfig
from nats.js.errors import APIError
from some_jobs import request

from dreamforge.contracts.events import CancelRequested
from dreamforge.contracts.log.permissions import SERVICES
from dreamforge.contracts.log.subjects import job_filter
from dreamforge.runtime import clock, ids
from dreamforge.runtime.embedded import GuardedProcess, spawn
from dreamforge.runtime.embedded.binaries import find_program
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.bus import Bus, connect
from dreamforge.runtime.log.event_store import NEW_JOB, EventStore
from dreamforge.runtime.log.seeds import new_seed, public_key_of
from dreamforge.runtime.log.streams import ensure_streams
from dreamforge.runtime.testing import eventually

PRODUCTION = Path(__file__).parents[3] / "deploy" / "nats" / "nats.conf"
USERS = ("admin", "system", "route")
SEEDS = {user: new_seed() for user in SERVICES}
ELECTION_SECONDS = 60.0  # raft waits 4 to 9 s before it elects a leader again, and test machines are shared
IDLE_SECONDS = 0.05  # what makes replicas lag here; without it none did
ABSENCE = (nats.errors.Error, APIError, TimeoutError)


@dataclass(frozen=True)
class Node:
    name: str
    process: GuardedProcess
    address: str


def environment_of(name: str, ports: tuple[int, int, int], folder: Path, routes: list[str]) -> dict[str, str]:
    listen, http, cluster_listen = (f"127.0.0.1:{port}" for port in ports)
    values: dict[str, object] = {"SERVER_NAME": name, "STORE_DIR": str(folder / name), "ROUTES": routes}
    values |= {"LISTEN": listen, "HTTP": http, "CLUSTER_LISTEN": cluster_listen}
    values |= {f"PASSWORD_{user.upper()}": f"{user}-word" for user in USERS}
    values |= {f"NKEY_{user.upper()}": public_key_of(seed) for user, seed in SEEDS.items()}
    quoted = {f"FORGE_NATS_{key}": json.dumps(value) for key, value in values.items()}
    return quoted | {"FORGE_NATS_FILE_LIMIT": "10GB", "PATH": os.defpath}


def distinct_ports(count: int) -> list[int]:
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[list[Node]]:
    ports = distinct_ports(9)
    routes = [f"nats://route:route-word@127.0.0.1:{port}" for port in ports[2::3]]
    nodes = []
    async with AsyncExitStack() as stack:
        for number in range(3):
            name, own = f"nats-{number}", (ports[3 * number], ports[3 * number + 1], ports[3 * number + 2])
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            command = [str(find_program("nats-server")), "-c", str(PRODUCTION)]
            environment = environment_of(name, own, folder, routes)
            process = await spawn(command, environment=environment, folder=folder, output=log)
            stack.push_async_callback(process.kill)
            nodes.append(Node(name, process, f"127.0.0.1:{own[0]}"))
        yield nodes


@asynccontextmanager
async def admin_of(nodes: list[Node]) -> AsyncIterator[Bus]:
    """Who creates the streams."""
    bus = await connect(",".join(f"nats://admin:admin-word@{each.address}" for each in nodes), "admin")
    try:
        yield bus
    finally:
        await bus.nc.close()


@asynccontextmanager
async def gateway_of(nodes: list[Node], folder: Path) -> AsyncIterator[Bus]:
    """A connection with the permissions of a gateway."""
    seed = folder / "gateway.seed"
    seed.write_text(SEEDS["gateway"])
    urls = ",".join(f"nats://{each.address}" for each in nodes)
    bus = await connect(urls, "gateway", user="gateway", seed_file=seed)
    try:
        yield bus
    finally:
        await bus.nc.close()


async def replicates(bus: Bus, nodes: list[Node]) -> bool:
    """The three have found each other and elected: only then can a stream with three replicas be made."""
    if ended := [n.name for n in nodes if n.process.returncode is not None]:
        raise RuntimeError(f"{ended} ended: see their logs")
    try:
        await bus.nc.jetstream(timeout=1).add_stream(StreamConfig(name="PROBE", subjects=["probe"], num_replicas=3))
    except ABSENCE:
        return False
    return True


async def appended(bus: Bus) -> bool:
    """With the version it was decided on, so that a repeat after a lost ack cannot append it twice."""
    version = {"Nats-Expected-Last-Subject-Sequence": "0"}
    try:
        await bus.js.publish("forge.jobs.LAST.0.requested", b"{}", timeout=1, headers=version)
    except ABSENCE:
        return await last_fact_is_there(bus)
    return True


async def last_fact_is_there(bus: Bus) -> bool:
    try:
        await bus.nc.jetstream(timeout=1).get_last_msg("JOBS", "forge.jobs.LAST.>")
    except ABSENCE:
        return False
    return True


async def messages_in_jobs(bus: Bus) -> int | None:
    """None while there is no leader to ask."""
    try:
        return int((await bus.nc.jetstream(timeout=1).stream_info("JOBS")).state.messages)
    except ABSENCE:
        return None


@asynccontextmanager
async def log_of_three(folder: Path) -> AsyncIterator[tuple[list[Node], Bus, Bus]]:
    """Our streams on three servers, an administrator's connection and a gateway's."""
    async with cluster(folder) as nodes, admin_of(nodes) as admin:
        await eventually(lambda: replicates(admin, nodes), ELECTION_SECONDS)
        await ensure_streams(admin, replicas=3)
        async with gateway_of(nodes, folder) as gateway:
            yield nodes, admin, gateway


@pytest.mark.fault
@pytest.mark.timeout(240)
async def test_acknowledged_events_survive_the_loss_of_any_one_of_three(tmp_path: Path) -> None:
    async with log_of_three(tmp_path) as (nodes, bus, gateway):
        async with asyncio.timeout(ELECTION_SECONDS):
            for number in range(10):
                await gateway.js.publish(f"forge.jobs.J{number}.0.requested", b"{}", timeout=10)
        info: Any = await bus.js.stream_info("JOBS")
        assert info.config.num_replicas == 3
        leader = next(n for n in nodes if n.name == info.cluster.leader)
        await leader.process.kill()
        await eventually(lambda: appended(bus), ELECTION_SECONDS)
        assert await eventually(lambda: messages_in_jobs(bus), ELECTION_SECONDS) == 11


@pytest.mark.fault
@pytest.mark.timeout(240)
async def test_a_read_sees_every_write_before_it_whichever_replica_answers(tmp_path: Path) -> None:
    """Servers that were idle for a moment are slow to apply: about one direct get in eight then misses the write."""
    async with log_of_three(tmp_path) as (nodes, _, _):
        for node in nodes:
            async with gateway_of([node], tmp_path) as bus:
                store = EventStore(bus, "/dreamforge/test")
                for _ in range(20):
                    job_id = ids.new_id()
                    await asyncio.sleep(IDLE_SECONDS)
                    written = (await store.execute(job_id, request(job_id), known=NEW_JOB)).version
                    found = await direct_get.last_of_each(bus, "JOBS", job_filter(job_id), covering=written)
                    assert [message.sequence for message in found] == [written]
                    await asyncio.sleep(IDLE_SECONDS)
                    cancelled = await store.append(job_id, [CancelRequested(at=clock.now())], expected=written)
                    assert (await store.load(job_id)).version == cancelled
