"""`dreamforge audit` on a real log: who did what, as lines and as JSON; and `tenants erase` takes the keys away."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dreamforge.cli.commands.keys import revoke_keys_of
from dreamforge.cli.failure import CommandError
from dreamforge.cli.main import app
from dreamforge.runtime.testing.streams import declare_streams


@pytest.fixture(autouse=True)
def _log(nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORGE_NATS_URL", nats_url)
    asyncio.run(declare_streams(nats_url))


def dreamforge(*arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments])


def new_key(name: str, tenant: str) -> tuple[str, str]:
    """Its id, and the key."""
    made = json.loads(dreamforge("keys", "create", name, "--tenant", tenant, "--json").stdout)
    return made["key_id"], made["key"]


def test_the_audit_names_who_did_what() -> None:
    (key_id, key), _ = new_key("laptop", "studio-a"), new_key("robot", "studio-b")
    dreamforge("keys", "revoke", key_id)
    answer = dreamforge("audit", "--since", "10m", "--json")
    entries = json.loads(answer.stdout)
    assert [(each["action"], each["tenant"]) for each in entries] == [
        ("dreamforge.key.created.v1", "studio-a"),
        ("dreamforge.key.created.v1", "studio-b"),
        ("dreamforge.key.revoked.v1", None),
    ]
    assert entries[0]["details"]["name"] == "laptop"
    assert key.rpartition("_")[2] not in answer.stdout
    (who,) = {each["actor"]["id"] for each in entries}
    assert "@" in who

    lines = dreamforge("audit", "--tenant", "studio-a").stdout.splitlines()
    assert len(lines) == 1
    assert "key.created" in lines[0]
    assert f"{key_id} by {who}" in lines[0]
    assert len(dreamforge("audit", "--actor", who).stdout.splitlines()) == 3
    assert dreamforge("audit", "--actor", "someone-else").stdout == ""
    assert isinstance(dreamforge("audit", "--since", "12").exception, CommandError)


def test_keys_of_a_tenant_are_revoked_but_the_one_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    of_a, _ = new_key("laptop", "studio-a")
    own, key = new_key("operator", "studio-a")
    of_b, _ = new_key("robot", "studio-b")
    monkeypatch.setenv("FORGE_API_KEY", key)
    assert [asyncio.run(revoke_keys_of("studio-a")) for _ in range(2)] == [1, 0]
    status = {each["key_id"]: each["status"][:7] for each in json.loads(dreamforge("keys", "list", "--json").stdout)}
    assert status == {of_a: "revoked", own: "valid", of_b: "valid"}
