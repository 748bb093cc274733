"""Both NATS configurations are valid, and the production example lets each service do its own work only."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import nats
import nats.errors
import pytest

from dreamforge.runtime.embedded import spawn
from dreamforge.runtime.embedded.binaries import find_program
from dreamforge.runtime.embedded.nats_server import CONFIGURATION
from dreamforge.runtime.embedded.ports import free_port, is_taken
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


@pytest.mark.parametrize(
    ("user", "subject", "allowed"),
    [
        ("gateway", "forge.jobs.J.0.requested", True),
        ("gateway", "$JS.API.STREAM.PURGE.JOBS", False),
        ("gateway", "forge.steps.J", False),
        ("gateway", "forge.queues.fleet.1.held", True),
        ("gateway", "forge.probes.gateway", True),
        ("scheduler", "forge.timers.schedule.J", True),
        ("scheduler", "$KV.leaders.scheduler", True),
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
    alone = node("nats-0")
    command = [str(find_program("nats-server")), "-c", str(PRODUCTION)]
    environment = alone.environment(tmp_path, [f"nats://route:route-word@127.0.0.1:{alone.route_port}"])
    with (tmp_path / "nats.log").open("wb") as log:
        process = await spawn(command, environment=environment, folder=tmp_path, output=log)
    try:
        await eventually(lambda: is_taken(alone.port))
        yield f"nats://USER:USER-word@127.0.0.1:{alone.port}"
    finally:
        await process.kill()
