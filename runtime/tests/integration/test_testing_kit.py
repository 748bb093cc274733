"""The kit's own promises: real servers, nothing shared between tests, and clear words when something is missing."""

import asyncio
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nats
import psycopg
import pytest

from dreamforge.runtime.embedded import EmbeddedStack, NatsServer
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.blocking import run_blocking
from dreamforge.runtime.testing.buckets import S3Settings
from dreamforge.runtime.testing.choice import VARIABLE, chosen_servers
from dreamforge.runtime.testing.streams import delete_streams

FORGOTTEN: "list[psycopg.Connection[Any]]" = []


@pytest.mark.parametrize("_time", [1, 2])
async def test_each_test_has_a_jetstream_without_streams(nats_url: str, _time: int) -> None:
    connection = await nats.connect(nats_url)
    assert await connection.jetstream().streams_info() == []
    await connection.jetstream().add_stream(name="JOBS", subjects=["forge.jobs.>"])
    await connection.close()


async def test_a_test_may_kill_its_nats(nats_server: NatsServer) -> None:
    """Started by a fixture in another thread's loop, killed and restarted in this one."""
    await nats_server.kill()
    await nats_server.restart()
    await (await nats.connect(nats_server.url)).close()


@pytest.mark.parametrize("_time", [1, 2])
def test_each_test_has_a_database_of_its_own(database_url: str, _time: int) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE only_here (id int)")


def test_a_forgotten_connection_does_not_block_the_end(empty_database_url: str) -> None:
    """Dropping the database afterwards ends it: else this test's teardown would fail."""
    forgotten = psycopg.connect(empty_database_url)
    FORGOTTEN.append(forgotten)
    assert forgotten.execute("SELECT 1").fetchone() == (1,)


def test_an_empty_database_is_empty(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as connection:
        found = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert found == (0,)


@pytest.mark.parametrize("_time", [1, 2])
def test_each_test_has_a_bucket_of_its_own(s3_settings: S3Settings, _time: int) -> None:
    client = s3_settings.client()
    assert not client.bucket_exists(s3_settings.bucket)
    client.make_bucket(s3_settings.bucket)
    client.fput_object(s3_settings.bucket, "a/b", __file__)
    assert S3Settings.of(s3_settings.settings_env()) == s3_settings


def test_all_settings_at_once(forge_env: dict[str, str]) -> None:
    assert {"FORGE_NATS_URL", "FORGE_DATABASE_URL", "FORGE_S3_ENDPOINT", "FORGE_S3_BUCKET"} <= set(forge_env)


async def test_eventually_returns_the_first_value_that_will_do() -> None:
    counter = itertools.count()
    assert await eventually(lambda: next(counter), until=lambda n: n >= 3, interval_seconds=0) == 3
    assert next(counter) == 4


async def test_eventually_says_what_it_saw_last() -> None:
    def queue_length() -> int:
        return 17

    with pytest.raises(AssertionError, match=r"queue_length did not come true within 0\.05 s; last seen: 17"):
        await eventually(queue_length, 0.05, until=lambda n: n == 0)


async def test_eventually_takes_a_failed_assertion_for_not_yet() -> None:
    counter = itertools.count()

    async def observe() -> str:
        assert next(counter) > 2, "too early"
        return "there"

    assert await eventually(observe, interval_seconds=0) == "there"

    def never() -> bool:
        raise AssertionError("too early")

    with pytest.raises(AssertionError, match=r"last seen: AssertionError.*too early"):
        await eventually(never, 0.05)


@pytest.mark.parametrize("fault", [KeyError("id"), TimeoutError("of the client")])
async def test_eventually_lets_other_errors_through_at_once(fault: Exception) -> None:
    def broken() -> bool:
        raise fault

    with pytest.raises(type(fault)) as caught:
        await eventually(broken, 60)
    assert caught.value is fault


async def test_blocking_runs_beside_a_running_loop() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    assert run_blocking(answer()) == 42


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(pytest.UsageError, match="FORGE_TEST_SERVERS is 'docker'; it must be one of embedded"):
        chosen_servers({VARIABLE: "docker"})


SAMPLE = """
import nats, psycopg

async def test_one(forge_env, s3_settings):
    connection = await nats.connect(forge_env["FORGE_NATS_URL"])
    assert (await connection.jetstream().stream_info("STEPS")).state.messages == 0
    await connection.jetstream().publish("forge.steps.here", b"only in this test")
    await connection.close()
    with psycopg.connect(forge_env["FORGE_DATABASE_URL"]) as database:
        database.execute("CREATE TABLE only_here (id int)")
    s3_settings.client().make_bucket(s3_settings.bucket)

test_two = test_one

def test_it_kills(nats_server): ...
"""


def run_sample(folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    (folder / "test_sample.py").write_text(SAMPLE)
    plugins = ["-p", "pytest_asyncio.plugin", "-p", "dreamforge.runtime.testing.plugin"]
    options = ["-q", "-rs", "-o", "asyncio_mode=auto", "--rootdir", str(folder), "test_sample.py"]
    inherited = {n: v for n, v in os.environ.items() if not n.startswith(("FORGE_", "PYTEST_"))}
    own = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | environment  # the other plugins take seconds to import
    command = [sys.executable, "-m", "pytest", *plugins, *options]
    return subprocess.run(command, cwd=folder, env=inherited | own, capture_output=True, text=True)


async def test_external_servers_are_used_and_left_clean(tmp_path: Path) -> None:
    async with EmbeddedStack(tmp_path / "external", fsync=False) as stack:
        env = stack.settings_env()
        await delete_streams(env["FORGE_NATS_URL"])  # it begins with ours
        result = await asyncio.to_thread(run_sample, tmp_path, **env, FORGE_TEST_SERVERS="external")
        assert "2 passed, 1 skipped" in result.stdout, result.stdout
        assert "needs FORGE_TEST_SERVERS=embedded" in result.stdout
        connection = await nats.connect(env["FORGE_NATS_URL"])
        assert await connection.jetstream().streams_info() == []
        with psycopg.connect(env["FORGE_DATABASE_URL"]) as database:
            names = database.execute("SELECT datname FROM pg_database WHERE datname LIKE 'forge\\_%'").fetchall()
        assert names == []
        assert list(stack.s3.objects_folder.iterdir()) == []

        await connection.jetstream().add_stream(name="REAL", subjects=["real"])
        refused = await asyncio.to_thread(run_sample, tmp_path, **env, FORGE_TEST_SERVERS="external")
        assert "holds streams (['REAL'])" in refused.stdout
        assert [s.config.name for s in await connection.jetstream().streams_info()] == ["REAL"]
        await connection.close()


def test_external_servers_that_are_not_named_are_asked_for(tmp_path: Path) -> None:
    result = run_sample(tmp_path, FORGE_TEST_SERVERS="external")
    assert "FORGE_DATABASE_URL must name the server to test against" in result.stdout
