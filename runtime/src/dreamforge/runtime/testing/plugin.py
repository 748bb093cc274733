"""The fixtures of every test, loaded by `-p dreamforge.runtime.testing.plugin` in the root pyproject.

Not a pytest11 entry point: a production install of the runtime must not carry a pytest plugin.

For a test that needs ...              ask for
- a JetStream of its own               nats_url; with our streams: bus, and the store of events on it
- a database with our schema           database_url   (without: empty_database_url)
- a bucket of its own                  s3_settings
- all of that as settings              forge_env
- a server that it kills or inspects   nats_server (its own); else start one: `async with PostgresServer(tmp_path)`

Servers start when first asked for, once per test process. NATS is started for each test: stream names are
fixed, so a test needs a server of its own, and 0.04 s buys it (with fsync, as in production; without it an append
takes 0.25 ms instead of 0.5: not worth testing something else than what runs).
"""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dreamforge.runtime.testing.choice import chosen_servers, external_setting

if TYPE_CHECKING:  # imported lazily below: most tests need no server, and must not need their libraries
    from dreamforge.runtime.embedded import NatsServer, PostgresServer, S3Server
    from dreamforge.runtime.log.bus import Bus
    from dreamforge.runtime.log.event_store import EventStore
    from dreamforge.runtime.testing.buckets import S3Settings


def _need_embedded() -> None:
    if chosen_servers() != "embedded":
        pytest.skip("reaches into its server: needs FORGE_TEST_SERVERS=embedded")


@pytest.fixture
def nats_server(tmp_path: Path) -> "Iterator[NatsServer]":
    """A NATS server of the test's own, to be killed and restarted at will."""
    _need_embedded()
    from dreamforge.runtime.embedded import NatsServer
    from dreamforge.runtime.testing.blocking import run_blocking

    server = NatsServer(tmp_path / "nats")
    run_blocking(server.start())
    try:
        yield server
    finally:
        run_blocking(server.stop())


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[PostgresServer]":
    """The Postgres of this test process; shared, so never kill it."""
    _need_embedded()
    from dreamforge.runtime.embedded import PostgresServer
    from dreamforge.runtime.testing.blocking import run_blocking

    server = PostgresServer(tmp_path_factory.mktemp("postgres"), fsync=False)
    run_blocking(server.start())
    try:
        yield server
    finally:
        run_blocking(server.stop())
        shutil.rmtree(server.data_folder, ignore_errors=True)  # 40 MB; the log beside it stays


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[S3Server]":
    """The S3 endpoint of this test process; shared, so never kill it."""
    _need_embedded()
    from dreamforge.runtime.embedded import S3Server
    from dreamforge.runtime.testing.blocking import run_blocking

    server = S3Server(tmp_path_factory.mktemp("s3"))
    run_blocking(server.start())
    try:
        yield server
    finally:
        run_blocking(server.stop())


@pytest.fixture(scope="session")
def _shared_nats_url() -> Iterator[str]:
    """A NATS server that tests share one after the other, where they cannot start their own."""
    from dreamforge.runtime.testing.blocking import run_blocking
    from dreamforge.runtime.testing.streams import refuse_foreign_streams

    if chosen_servers() == "containers":
        from dreamforge.runtime.testing.containers import nats_container

        with nats_container() as url:
            yield url
    else:
        url = external_setting("FORGE_NATS_URL")
        run_blocking(refuse_foreign_streams(url))
        yield url


@pytest.fixture
def nats_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A JetStream without any stream, for this test alone."""
    if chosen_servers() == "embedded":
        yield request.getfixturevalue("nats_server").url
        return
    from dreamforge.runtime.testing.blocking import run_blocking
    from dreamforge.runtime.testing.streams import delete_streams

    url: str = request.getfixturevalue("_shared_nats_url")
    yield url
    run_blocking(delete_streams(url))


@pytest.fixture
async def bus(nats_url: str) -> "AsyncIterator[Bus]":
    """A connection to a log of the test's own."""
    from dreamforge.runtime.log.bus import connect
    from dreamforge.runtime.log.streams import ensure_streams

    connected = await connect(nats_url, "test")
    await ensure_streams(connected)
    yield connected
    await connected.close()


@pytest.fixture
def store(bus: "Bus") -> "EventStore":
    """The event store on that log."""
    from dreamforge.runtime.log.event_store import EventStore

    return EventStore(bus, "/dreamforge/test")


@pytest.fixture(scope="session")
def _postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Some database of the server, of a role that may create more."""
    choice = chosen_servers()
    if choice == "embedded":
        yield request.getfixturevalue("postgres_server").url
    elif choice == "containers":
        from dreamforge.runtime.testing.containers import postgres_container

        with postgres_container() as url:
            yield url
    else:
        yield external_setting("FORGE_DATABASE_URL")


@pytest.fixture(scope="session")
def _template_database(_postgres_url: str) -> Iterator[str]:
    from dreamforge.runtime.testing.databases import template_database

    with template_database(_postgres_url) as name:
        yield name


@pytest.fixture
def database_url(_postgres_url: str, _template_database: str) -> Iterator[str]:
    """A database of the test's own, migrated to the newest schema."""
    from dreamforge.runtime.testing.databases import database

    with database(_postgres_url, _template_database) as url:
        yield url


@pytest.fixture
def empty_database_url(_postgres_url: str) -> Iterator[str]:
    """A database of the test's own with nothing in it."""
    from dreamforge.runtime.testing.databases import database

    with database(_postgres_url) as url:
        yield url


@pytest.fixture(scope="session")
def _shared_s3_settings(request: pytest.FixtureRequest) -> "Iterator[S3Settings]":
    from dreamforge.runtime.testing.buckets import S3Settings

    choice = chosen_servers()
    if choice == "embedded":
        yield S3Settings.of(request.getfixturevalue("s3_server").settings_env())
    elif choice == "containers":
        from dreamforge.runtime.testing.containers import s3_container

        with s3_container() as settings:
            yield settings
    else:
        names = ("FORGE_S3_ENDPOINT", "FORGE_S3_ACCESS_KEY", "FORGE_S3_SECRET_KEY")
        secure = os.environ.get("FORGE_S3_SECURE", "false")
        known = {name: external_setting(name) for name in names}
        yield S3Settings.of(known | {"FORGE_S3_BUCKET": "forge", "FORGE_S3_SECURE": secure})


@pytest.fixture
def s3_settings(_shared_s3_settings: "S3Settings") -> "Iterator[S3Settings]":
    """An S3 server and the name of a bucket that does not exist yet; removed with its objects afterwards."""
    settings = _shared_s3_settings.with_fresh_bucket()
    yield settings
    settings.remove_bucket()


@pytest.fixture
def _nats_env(request: pytest.FixtureRequest) -> dict[str, str]:
    """With our streams. Services must not refuse an external server that does not fsync: no test is about that."""
    from dreamforge.runtime.testing.blocking import run_blocking
    from dreamforge.runtime.testing.streams import declare_streams

    if chosen_servers() == "embedded":
        own: NatsServer = request.getfixturevalue("nats_server")
        run_blocking(declare_streams(own.url))
        return own.settings_env()
    run_blocking(declare_streams(request.getfixturevalue("nats_url")))
    return {"FORGE_NATS_URL": request.getfixturevalue("nats_url"), "FORGE_NATS_ALLOW_UNSYNCED": "true"}


@pytest.fixture
def forge_env(_nats_env: dict[str, str], database_url: str, s3_settings: "S3Settings") -> dict[str, str]:
    """The FORGE_* settings of a complete stack that belongs to this test alone."""
    return {**_nats_env, "FORGE_DATABASE_URL": database_url, **s3_settings.settings_env()}
