"""`dreamforge keys` on a real log: a key is shown once, listed without its secret, and revoked for good."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dreamforge.cli.main import app
from dreamforge.contracts.access import Identity, Scope, identity_of_key
from dreamforge.runtime import clock
from dreamforge.runtime.log.bus import connect
from dreamforge.runtime.log.views import KeysView
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.streams import declare_streams


def dreamforge(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["keys", *arguments])


async def identity(nats_url: str, key: str) -> Identity | None:
    """What a gateway makes of the key."""
    bus = await connect(nats_url, "test")
    view = KeysView(bus)
    task = asyncio.create_task(view.run())
    await eventually(view.ready.is_set)
    task.cancel()
    await bus.close()
    return identity_of_key(key, view.keys, clock.now())


def test_a_key_lives(nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORGE_NATS_URL", nats_url)
    asyncio.run(_declare(nats_url))
    assert json.loads(dreamforge("list", "--json").stdout) == []

    created = json.loads(dreamforge("create", "laptop", "--tenant", "studio-a", "--json").stdout)
    key, key_id = created["key"], created["key_id"]
    assert asyncio.run(identity(nats_url, key)) == Identity(key_id, "studio-a", frozenset((Scope.READ, Scope.SUBMIT)))
    listed = dreamforge("list").stdout
    assert key_id in listed
    assert key.rpartition("_")[2] not in listed

    assert dreamforge("revoke", key_id).exit_code == 0
    assert asyncio.run(identity(nats_url, key)) is None
    assert "was revoked before" in dreamforge("revoke", key_id).stdout
    assert json.loads(dreamforge("list", "--json").stdout)[0]["status"].startswith("revoked ")


async def _declare(nats_url: str) -> None:
    await declare_streams(nats_url)
