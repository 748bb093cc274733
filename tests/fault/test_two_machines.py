"""A second machine: a runner that joins with the printed command renders for a stack in another folder."""

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from dreamforge.cli.remote import models
from dreamforge.cli.remote.first_machine import first_machine
from dreamforge.cli.remote.membership import Membership
from dreamforge.cli.settings import SHIPPED_MODELS, CliSettings
from dreamforge.cli.stack.local import LocalStack
from dreamforge.cli.stack.plan import StackOptions
from dreamforge.cli.stack_record import StackRecord
from dreamforge.runtime import clock
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.remote.settings import RemoteSettings
from dreamforge.runtime.remote.token import JoinToken, parse_join_token
from dreamforge.runtime.storage.model_folder import model_digest
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.choice import chosen_servers
from dreamforge.runtime.tls.client_context import client_context

pytestmark = [pytest.mark.fault, pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def first(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StackRecord]:
    """A stack without a runner of its own."""
    if chosen_servers() != "embedded":
        pytest.skip("starts servers of its own: needs FORGE_TEST_SERVERS=embedded")
    remote = RemoteSettings(host="127.0.0.1", port=free_port(), nats_port=free_port())
    state_dir = tmp_path_factory.mktemp("first")
    settings = CliSettings(_env_file=None, state_dir=state_dir, runner_models_dir=SHIPPED_MODELS.absolute())  # type: ignore[call-arg]
    options = StackOptions(gateway_port=0, runners=0, renderer="synthetic", remote=remote)
    async with LocalStack(settings, options) as stack:
        yield stack.record()


def environment(state_dir: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FORGE_")}
    return inherited | {"FORGE_STATE_DIR": str(state_dir), "PYTHONUNBUFFERED": "1"}


async def command(state_dir: Path, *arguments: str) -> tuple[int, str, str]:
    """Run `dreamforge` to its end; status, stdout and stderr."""
    process = await started(state_dir, *arguments)
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def started(state_dir: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "dreamforge.cli", *arguments),
        env=environment(state_dir),
        cwd=state_dir,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def token_for(first: StackRecord, runner_id: str) -> JoinToken:
    status, output, errors = await command(first.folder, "runner", "add", runner_id)
    assert status == 0, errors
    assert "secret" in errors
    return parse_join_token(output.removeprefix("dreamforge runner join "))


@asynccontextmanager
async def joined(state_dir: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A runner in the foreground, and its end."""
    process = await started(state_dir, "runner", "join", *arguments, "--renderer", "synthetic", "--quiet")
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()


async def online(client: httpx.AsyncClient, runner_id: str) -> bool:
    runners = (await client.get("/v1/runners")).json()["runners"]
    found = [each for each in runners if each["runner_id"] == runner_id and each["status"] == "online"]
    return bool(found) and not (found[0]["heartbeat"] or {"draining": True})["draining"]


async def rendered(client: httpx.AsyncClient, seed: int) -> tuple[str, bytes]:
    """The runner that rendered a job, and its picture as a browser gets it."""
    answer = await client.post("/v1/jobs", json={"model_id": "synthetic", "prompt": "a house", "seed": seed})
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["job_id"]

    async def job() -> dict[str, object]:
        view: dict[str, object] = (await client.get(f"/v1/jobs/{job_id}")).json()
        assert view["status"] not in ("failed", "cancelled"), view
        return view

    view = await eventually(job, 60, until=lambda found: found["status"] == "succeeded")
    (artifact,) = view["artifacts"]  # type: ignore[misc]
    picture = await client.get(f"/v1/artifacts/{artifact['artifact_id']}")
    assert picture.status_code == 200
    assert hashlib.sha256(picture.content).hexdigest() == artifact["sha256"]
    return str(view["runner_id"]), picture.content


async def test_a_runner_joins_renders_comes_again_and_is_removed(first: StackRecord, tmp_path: Path) -> None:
    token = await token_for(first, "far")
    async with httpx.AsyncClient(base_url=first.gateway_url, timeout=30.0) as client:
        async with joined(tmp_path, token.encoded()):
            await eventually(lambda: online(client, "far"), 120)
            runner_id, picture = await rendered(client, 1)
            assert runner_id == "far"
            assert picture.startswith(b"\x89PNG")
        kept = Membership(tmp_path)
        assert {path.stat().st_mode & 0o777 for path in kept.folder.iterdir()} == {0o600}
        async with joined(tmp_path) as again:
            await eventually(lambda: online(client, "far"), 120)
            assert (await rendered(client, 2))[0] == "far"
            await brings_a_model(kept, tmp_path / "brought")
            assert "runner far is known at" in (await command(tmp_path, "doctor"))[1]
            assert (await command(first.folder, "runner", "remove", "far"))[0] == 0
            assert again.returncode is None
    assert "refuses runner far" in (await command(tmp_path, "doctor"))[1]
    status, _, errors = await command(tmp_path, "runner", "join")
    assert status == 2
    assert "refuses runner far" in errors
    assert "removed or replaced" in errors
    status, _, errors = await command(tmp_path, "runner", "join", token.encoded())
    assert status == 2
    assert "refuses runner far" in errors


async def brings_a_model(kept: Membership, folder: Path) -> None:
    machine, context = kept.machine(), client_context(kept.authority_file, "authority")
    assert context is not None
    async with first_machine(machine.url, context, kept.seed(), "far") as client:
        (model,) = models.chosen(await models.models_there(client), ["forge-shapes"])
        assert await models.bring(client, model, folder, quiet=True)
        assert not await models.bring(client, model, folder, quiet=True), "it is here already"
    assert model_digest(folder / "forge-shapes") == model.descriptor.digest


async def test_another_machine_at_the_address_is_told_nothing(first: StackRecord, tmp_path: Path) -> None:
    token = await token_for(first, "misled")
    wrong = token.model_copy(update={"fingerprint": "0" * 64})
    status, _, errors = await command(tmp_path, "runner", "join", wrong.encoded())
    assert status == 2
    assert "not the machine that made the token" in errors
    assert token.fingerprint in errors
    assert not Membership(tmp_path).folder.exists()
    credential = first.folder / "nats" / "users" / "runner-misled.expires"
    assert credential.exists(), "no request with the credential was sent"


async def test_a_token_that_expired_says_so(first: StackRecord, tmp_path: Path) -> None:
    token = await token_for(first, "late")
    old = token.model_copy(update={"expires_at": clock.now() - timedelta(minutes=1)})
    status, _, errors = await command(tmp_path, "runner", "join", old.encoded())
    assert status == 2
    assert "expired" in errors
    assert "runner add late" in errors
    credential = first.folder / "nats" / "users" / "runner-late"
    credential.with_suffix(".expires").write_text((clock.now() - timedelta(minutes=1)).isoformat())

    async def is_gone() -> bool:
        return "runner-late" not in (first.folder / "nats" / "users.conf").read_text()

    await eventually(is_gone, 60)
    assert not credential.with_suffix(".public").exists()
    status, _, errors = await command(tmp_path, "runner", "join", token.encoded())
    assert status == 2
    assert "not used in time" in errors


async def test_a_stack_that_takes_no_other_machines_says_how_it_would(tmp_path: Path) -> None:
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats" / "credentials.json").write_text(json.dumps({"token": "forge_x"}))
    status, output, errors = await command(tmp_path, "runner", "add", "gpu-2")
    assert status == 0
    assert output.startswith("SU")
    assert "dreamforge up --listen 0.0.0.0" in errors
