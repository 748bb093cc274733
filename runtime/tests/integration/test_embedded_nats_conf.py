"""Both NATS configurations are valid, and the production example lets in who has a credential, as itself."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import nats
import nats.errors
import pytest

from dreamforge.contracts.log.permissions import SERVICES
from dreamforge.runtime.embedded import spawn
from dreamforge.runtime.embedded.binaries import find_program
from dreamforge.runtime.embedded.nats_server import CONFIGURATION
from dreamforge.runtime.embedded.nats_users import write_users
from dreamforge.runtime.embedded.ports import free_port, is_taken
from dreamforge.runtime.log.seeds import new_seed, public_key_of
from dreamforge.runtime.testing import eventually

PRODUCTION = Path(__file__).parents[3] / "deploy" / "nats" / "nats.conf"
USERS = ("admin", "system", "route")
SEEDS = {user: new_seed() for user in SERVICES}


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
            **{f"NKEY_{user.upper()}": public_key_of(seed) for user, seed in SEEDS.items()},
        }
        quoted = {f"FORGE_NATS_{name}": json.dumps(value) for name, value in values.items()}
        return quoted | {"FORGE_NATS_FILE_LIMIT": "10GB", "PATH": os.defpath}


def node(name: str) -> Node:
    return Node(name, free_port(), free_port(), free_port())


def check(configuration: Path, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    command = [str(find_program("nats-server")), "-t", "-c", str(configuration)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_embedded_configuration_is_valid(tmp_path: Path) -> None:
    values = {
        "SERVER_NAME": '"a"',
        "PORT": "1",
        "HTTP": '"127.0.0.1:2"',
        "HOST": '"127.0.0.1"',
        "STORE_DIR": f'"{tmp_path}"',
    }
    shutil.copyfile(CONFIGURATION, tmp_path / "nats.conf")
    write_users(tmp_path, "word", ("gpu-1",), "")
    values |= {"SYNC_INTERVAL": '"always"', "MEMORY_LIMIT": "1", "FILE_LIMIT": "1"}
    environment = {f"FORGE_NATS_{name}": value for name, value in values.items()}
    assert check(tmp_path / "nats.conf", environment).returncode == 0
    (tmp_path / "users.conf").unlink()
    assert check(tmp_path / "nats.conf", environment).returncode != 0, "a server without users must not start"


def test_the_production_configuration_is_valid(tmp_path: Path) -> None:
    environment = node("a").environment(tmp_path, ["nats://127.0.0.1:1"])
    assert check(PRODUCTION, environment).returncode == 0
    for user in (*USERS, *SERVICES):
        without = {name: value for name, value in environment.items() if not name.endswith(user.upper())}
        assert check(PRODUCTION, without).returncode != 0, f"{user} must not be let in without a credential"


async def test_each_service_is_let_in_with_its_seed_and_as_itself_only(one_node: str) -> None:
    for user in SERVICES:
        refused: asyncio.Queue[str] = asyncio.Queue()

        async def on_error(error: Exception, refused: "asyncio.Queue[str]" = refused) -> None:
            await refused.put(str(error))

        connection = await nats.connect(one_node, nkeys_seed_str=SEEDS[user], error_cb=on_error)
        await connection.publish(f"forge.probes.{user}", b"")
        await connection.publish("forge.probes.somebody", b"")  # the server refuses in order
        assert "forge.probes.somebody" in await asyncio.wait_for(refused.get(), 5)
        await connection.close()
    with pytest.raises(nats.errors.Error):
        await nats.connect(one_node, allow_reconnect=False, error_cb=_ignore)


async def _ignore(_: Exception) -> None:
    return None


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
        yield f"nats://127.0.0.1:{alone.port}"
    finally:
        await process.kill()
