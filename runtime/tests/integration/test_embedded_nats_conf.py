"""Both NATS configurations are valid, and the production example does what it says: a real cluster of three."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import nats.errors
import pytest
from nats.js.api import StreamConfig
from nats.js.errors import APIError

from dreamforge.runtime.bus import Bus, connect
from dreamforge.runtime.embedded import GuardedProcess, spawn
from dreamforge.runtime.embedded.binaries import find_program
from dreamforge.runtime.embedded.nats_server import CONFIGURATION
from dreamforge.runtime.embedded.ports import free_port, is_taken
from dreamforge.runtime.streams import ensure_streams
from dreamforge.runtime.testing import eventually

PRODUCTION = Path(__file__).parents[3] / "deploy" / "nats" / "nats.conf"
USERS = ("gateway", "scheduler", "runner", "projector", "admin", "system", "route")


@dataclass(frozen=True)
class Node:
    name: str
    port: int
    http_port: int
    route_port: int

    def environment(self, folder: Path, routes: list[str]) -> dict[str, str]:
        values = {
            "SERVER_NAME": self.name,
            "LISTEN": f"127.0.0.1:{self.port}",
            "HTTP": f"127.0.0.1:{self.http_port}",
            "CLUSTER_LISTEN": f"127.0.0.1:{self.route_port}",
            "STORE_DIR": str(folder / self.name),
            "ROUTES": routes,
            **{f"PASSWORD_{user.upper()}": f"{user}-word" for user in USERS},
        }
        quoted = {f"FORGE_NATS_{name}": json.dumps(value) for name, value in values.items()}
        return quoted | {"FORGE_NATS_FILE_LIMIT": "10GB", "PATH": os.defpath}


def node(name: str) -> Node:
    return Node(name, free_port(), free_port(), free_port())


def check(configuration: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [str(find_program("nats-server")), "-t", "-c", str(configuration)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_embedded_configuration_is_valid(tmp_path: Path) -> None:
    values = {"SERVER_NAME": '"a"', "PORT": "1", "HTTP": '"127.0.0.1:2"', "TOKEN": '"t"', "STORE_DIR": f'"{tmp_path}"'}
    values |= {"SYNC_INTERVAL": '"always"', "MEMORY_LIMIT": "1", "FILE_LIMIT": "1"}
    environment = {f"FORGE_NATS_{name}": value for name, value in values.items()}
    assert check(CONFIGURATION, environment).returncode == 0
    del environment["FORGE_NATS_TOKEN"]
    assert check(CONFIGURATION, environment).returncode != 0, "a server without a token must not start"


def test_the_production_configuration_is_valid(tmp_path: Path) -> None:
    environment = node("a").environment(tmp_path, ["nats://127.0.0.1:1"])
    assert check(PRODUCTION, environment).returncode == 0
    for user in USERS:
        without = {name: value for name, value in environment.items() if not name.endswith(user.upper())}
        assert check(PRODUCTION, without).returncode != 0, f"{user} must not be let in without a password"


@asynccontextmanager
async def cluster(folder: Path, size: int) -> AsyncIterator[dict[Node, GuardedProcess]]:
    nodes = [node(f"nats-{number}") for number in range(size)]
    routes = [f"nats://route:route-word@127.0.0.1:{n.route_port}" for n in nodes]
    async with AsyncExitStack() as stack:
        running = {}
        for n in nodes:
            command = [str(find_program("nats-server")), "-c", str(PRODUCTION)]
            log = stack.enter_context((folder / f"{n.name}.log").open("wb"))
            running[n] = await spawn(command, environment=n.environment(folder, routes), folder=folder, output=log)
            stack.push_async_callback(running[n].kill)
        yield running


def urls(nodes: dict[Node, GuardedProcess], user: str) -> str:
    return ",".join(f"nats://{user}:{user}-word@127.0.0.1:{n.port}" for n in nodes)


@asynccontextmanager
async def bus_of(nodes: dict[Node, GuardedProcess], user: str) -> AsyncIterator[Bus]:
    bus = await connect(urls(nodes, user), user)
    try:
        yield bus
    finally:
        await bus.nc.close()


async def cluster_has_a_leader(bus: Bus) -> bool:
    with ignoring_absence():
        await bus.js.account_info()
        await bus.js.add_stream(StreamConfig(name="PROBE", subjects=["probe"], num_replicas=3))
        return True
    return False


@contextmanager
def ignoring_absence() -> Iterator[None]:
    try:
        yield
    except (nats.errors.Error, APIError, TimeoutError):
        return


async def test_acknowledged_facts_survive_the_loss_of_any_one_of_three(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as nodes, bus_of(nodes, "admin") as bus:
        await eventually(lambda: cluster_has_a_leader(bus), 30)
        async with bus_of(nodes, "gateway") as gateway:
            await ensure_streams(gateway, replicas=3)
            for number in range(10):
                await gateway.js.publish(f"forge.jobs.J{number}.0.requested", b"{}", timeout=5)
        info: Any = await bus.js.stream_info("JOBS")
        assert info.config.num_replicas == 3
        leader = next(n for n in nodes if n.name == info.cluster.leader)
        await nodes[leader].kill()
        await eventually(lambda: append_fact(bus), 30)
        assert (await bus.js.stream_info("JOBS")).state.messages == 11


async def append_fact(bus: Bus) -> bool:
    """With the version it was decided on, so that a repeat after a lost ack cannot append it twice."""
    header = {"Nats-Expected-Last-Subject-Sequence": "0"}
    with ignoring_absence():
        await bus.js.publish("forge.jobs.LAST.0.requested", b"{}", timeout=1, headers=header)
        return True
    return bool(await last_fact_is_there(bus))


async def last_fact_is_there(bus: Bus) -> bool:
    with ignoring_absence():
        await bus.js.get_last_msg("JOBS", "forge.jobs.LAST.>")
        return True
    return False


@pytest.mark.parametrize(
    ("user", "subject", "allowed"),
    [
        ("gateway", "forge.jobs.J.0.requested", True),
        ("gateway", "$JS.API.STREAM.PURGE.JOBS", False),
        ("gateway", "forge.steps.J", False),
        ("scheduler", "$JS.API.STREAM.DELETE.JOBS", False),
        ("runner", "forge.steps.J", True),
        ("runner", "$KV.runners.gpu-1", True),
        ("runner", "$JS.API.STREAM.MSG.DELETE.JOBS", False),
        ("projector", "forge.jobs.J.0.requested", False),
        ("projector", "forge.parked.projector", True),
        ("projector", "$JS.API.CONSUMER.CREATE.JOBS", True),
    ],
)
async def test_each_service_may_do_its_own_work_only(one_node: str, user: str, subject: str, allowed: bool) -> None:
    denied: asyncio.Queue[str] = asyncio.Queue()

    async def on_error(error: Exception) -> None:
        await denied.put(str(error))

    connection = await nats.connect(one_node.replace("USER", user), error_cb=on_error)
    await connection.publish(subject, b"")
    await connection.publish("never.allowed", b"")  # the server refuses in order: this one marks the end
    refused = [await asyncio.wait_for(denied.get(), 5)]
    while "never.allowed" not in refused[-1]:
        refused.append(await asyncio.wait_for(denied.get(), 5))
    assert len(refused) == (1 if allowed else 2)
    assert all(subject.lower() in line.lower() for line in refused[:-1])
    await connection.close()


@pytest.fixture
async def one_node(tmp_path: Path) -> AsyncIterator[str]:
    """One server of the cluster: enough for permissions, which do not wait for a majority."""
    async with cluster(tmp_path, 1) as nodes:
        (n,) = nodes
        await eventually(lambda: is_taken(n.port))
        yield f"nats://USER:USER-word@127.0.0.1:{n.port}"
