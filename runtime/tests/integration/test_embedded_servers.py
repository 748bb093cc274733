"""One shape, one set of laws for the three embedded servers; then what is particular to NATS and S3."""

import asyncio
import json
import os
import signal
import socket
import stat
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import minio
import nats
import nats.errors
import psutil
import psycopg
import pytest

from dreamforge.runtime.embedded import (
    EmbeddedError,
    EmbeddedServer,
    FolderInUse,
    NatsServer,
    PortInUse,
    PostgresServer,
    S3Server,
)
from dreamforge.runtime.embedded.ports import LOOPBACK, first_outgoing_port, is_taken
from dreamforge.runtime.embedded.processes import identity
from dreamforge.runtime.storage.key_locks import KeyLocks
from dreamforge.runtime.storage.unix_sockets import connect_unix
from dreamforge.runtime.testing import eventually
from dreamforge.runtime.testing.buckets import S3Settings


async def write_nats(server: Any, text: str) -> None:
    connection = await nats.connect(server.url)
    await connection.jetstream().add_stream(name="KEPT", subjects=["kept"])
    await connection.jetstream().publish("kept", text.encode())
    await connection.close()


async def read_nats(server: Any) -> str:
    connection = await nats.connect(server.url)
    message = await connection.jetstream().get_last_msg("KEPT", "kept")
    await connection.close()
    return (message.data or b"").decode()


async def write_postgres(server: Any, text: str) -> None:
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT %s::text AS word", (text,))


async def read_postgres(server: Any) -> str:
    with psycopg.connect(server.url) as connection:
        row = connection.execute("SELECT word FROM kept").fetchone()
    assert row
    return str(row[0])


def s3_client(server: Any) -> minio.Minio:
    return S3Settings.of(server.settings_env()).client()


async def write_s3(server: Any, text: str) -> None:
    client = s3_client(server)
    await asyncio.to_thread(client.make_bucket, server.bucket)
    path = server.folder / "source"
    path.write_text(text)
    await asyncio.to_thread(client.fput_object, server.bucket, "kept", str(path))


async def read_s3(server: Any) -> str:
    response = await asyncio.to_thread(s3_client(server).get_object, server.bucket, "kept")
    return response.data.decode()


@dataclass(frozen=True)
class Kind:
    make: Callable[..., EmbeddedServer]
    write: Callable[[Any, str], Awaitable[None]]
    read: Callable[[Any], Awaitable[str]]


KINDS = {
    "nats": Kind(NatsServer, write_nats, read_nats),
    "postgres": Kind(partial(PostgresServer, fsync=False), write_postgres, read_postgres),
    "s3": Kind(S3Server, write_s3, read_s3),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(params=["nats", "postgres"])
def tcp_kind(request: pytest.FixtureRequest) -> Kind:
    """Those that listen on a port."""
    return KINDS[request.param]


async def test_it_serves_when_started_and_is_gone_when_stopped(kind: Kind, tmp_path: Path) -> None:
    server = kind.make(tmp_path)
    assert not server.is_running
    assert server.processes() == []
    async with server:
        await kind.write(server, "a fact")
        assert await kind.read(server) == "a fact"
        (process,) = server.processes()
        assert (process.pid, process.address) == (server.pid, server.address)
        assert identity(server.pid)
        assert server.log_path.exists()
    assert identity(process.pid) is None
    assert not is_taken(server.port)
    assert server.processes() == []
    await server.stop()


async def test_data_and_secrets_survive_a_stop_and_a_new_object(kind: Kind, tmp_path: Path) -> None:
    async with kind.make(tmp_path) as first:
        await kind.write(first, "a fact")
        known = first.settings_env()
    async with kind.make(tmp_path, **({"port": first.port} if first.port else {})) as second:
        assert await kind.read(second) == "a fact"
        assert lasting(second.settings_env()) == lasting(known)


def lasting(env: dict[str, str]) -> dict[str, str]:
    """What a port given by the caller and the folder determine; the monitoring port is chosen again each time."""
    return {name: value for name, value in env.items() if name != "FORGE_NATS_MONITOR_URL"}


async def test_its_folder_may_have_any_name(kind: Kind, tmp_path: Path) -> None:
    async with kind.make(tmp_path / "\u00dcber-\u00f6fen \U0001f525 $HOME #1 'a' \"b\" [x]") as server:
        await kind.write(server, "a fact")
        assert await kind.read(server) == "a fact"


async def test_data_and_address_survive_a_kill(kind: Kind, tmp_path: Path) -> None:
    async with kind.make(tmp_path) as server:
        await kind.write(server, "a fact")
        known, pid = server.settings_env(), server.pid
        await server.kill()
        assert not server.is_running
        assert identity(pid) is None
        assert not is_taken(server.port)
        await server.restart()
        assert await kind.read(server) == "a fact"
        assert server.settings_env() == known
        assert server.pid != pid


async def test_a_running_server_can_be_restarted(kind: Kind, tmp_path: Path) -> None:
    async with kind.make(tmp_path) as server:
        await kind.write(server, "a fact")
        await server.restart()
        assert await kind.read(server) == "a fact"


async def test_a_waiter_learns_of_its_end_at_once(kind: Kind, tmp_path: Path) -> None:
    async with kind.make(tmp_path) as server:
        waiting = asyncio.create_task(server.wait())
        os.kill(server.pid, signal.SIGKILL)
        async with asyncio.timeout(1):
            assert await waiting == -signal.SIGKILL


async def test_a_taken_port_is_reported(tcp_kind: Kind, tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port} is in use") as caught:
            await tcp_kind.make(tmp_path, port=port).start()
    assert caught.value.port == port
    assert caught.value.details()["port"] == port


async def test_a_port_lost_between_choice_and_bind_is_replaced(tcp_kind: Kind, tmp_path: Path) -> None:
    """Several test processes choose free ports at the same time: the server itself then finds it taken."""
    with socket.create_server((LOOPBACK, 0)) as other:
        server = tcp_kind.make(tmp_path)
        server.port = other.getsockname()[1]
        async with server:
            assert server.port != other.getsockname()[1]


async def test_a_chosen_port_cannot_be_taken_by_an_outgoing_connection(tcp_kind: Kind, tmp_path: Path) -> None:
    """Else a client that reconnects while the server restarts could take its port, or meet itself there."""
    async with tcp_kind.make(tmp_path) as server:
        assert 1024 <= server.port < first_outgoing_port()


async def test_the_servers_own_complaint_about_the_port_is_understood(
    tcp_kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dreamforge.runtime.embedded.server.is_taken", lambda *_: False)
    with socket.create_server((LOOPBACK, 0)) as other, pytest.raises(PortInUse):
        await tcp_kind.make(tmp_path, port=other.getsockname()[1]).start()


async def test_a_second_start_in_the_same_folder_is_refused_by_pid(kind: Kind, tmp_path: Path) -> None:
    async with kind.make(tmp_path) as first:
        with pytest.raises(FolderInUse, match=rf"in use: process {os.getpid()} runs") as caught:
            await kind.make(tmp_path).start()
        assert caught.value.owner_pid == os.getpid()
        assert first.is_running
        with pytest.raises(EmbeddedError, match="already running"):
            await first.start()


async def test_after_a_failed_start_nothing_is_left_and_the_folder_is_free(kind: Kind, tmp_path: Path) -> None:
    server = kind.make(tmp_path, ready_seconds=0.001)
    with pytest.raises(EmbeddedError, match=r"no answer within 0\.001 s") as caught:
        await server.start()
    assert caught.value.log_path == server.log_path
    assert not is_taken(server.port)
    async with kind.make(tmp_path) as second:
        assert second.is_running


async def test_a_cancelled_start_leaves_nothing(kind: Kind, tmp_path: Path) -> None:
    server = kind.make(tmp_path)
    starting = asyncio.create_task(server.start())
    await eventually(server.log_path.exists, interval_seconds=0)  # seen before the start goes on
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not server.is_running
    async with kind.make(tmp_path) as second:
        assert second.is_running


async def test_secrets_are_for_their_owner_only(kind: Kind, tmp_path: Path) -> None:
    async with kind.make(tmp_path) as server:
        for name in ("credentials.json", server.log_path.name):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
        secrets = json.loads((tmp_path / "credentials.json").read_text()).values()
        shown = proc(server.pid, "cmdline").read_text() + server.log_path.read_text()
        assert not [secret for secret in secrets if secret in shown]


def proc(pid: int, *parts: str) -> Path:
    return Path("/proc", str(pid), *parts)


async def test_two_folders_have_different_secrets(kind: Kind, tmp_path: Path) -> None:
    async with kind.make(tmp_path / "a") as first, kind.make(tmp_path / "b") as second:
        secrets = [(s.folder / "credentials.json").read_text() for s in (first, second)]
        assert secrets[0] != secrets[1]


async def test_nats_ending_at_its_start_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    """Even JetStream's own files may be bad: here its account folder is a file."""
    (tmp_path / "jetstream").mkdir()
    (tmp_path / "jetstream" / "jetstream").write_text("a file where a folder must be")
    with pytest.raises(EmbeddedError, match=r"(?s)it ended with \d.*the end of its log:.*JetStream"):
        await NatsServer(tmp_path).start()


async def test_nats_accepts_its_token_only(nats_server: NatsServer) -> None:
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
        await nats.connect(f"nats://wrong@{nats_server.address}", allow_reconnect=False, error_cb=quiet)


async def quiet(_error: Exception) -> None:
    """Errors are what the test expects."""


async def test_nats_syncs_before_it_acknowledges(nats_server: NatsServer, tmp_path: Path) -> None:
    """Read back from the server itself, as configuration may be misspelt and ignored."""
    assert (await variables(nats_server, "jsz"))["config"]["sync_always"] is True
    async with NatsServer(tmp_path / "fast", fsync=False) as fast:
        assert not (await variables(fast, "jsz"))["config"].get("sync_always")


async def test_nats_answers_its_monitoring_endpoint(nats_server: NatsServer) -> None:
    seen = await variables(nats_server, "varz")
    assert seen["port"] == nats_server.port
    assert seen["max_payload"] == 2**20
    assert (await variables(nats_server, "healthz"))["status"] == "ok"


async def variables(server: NatsServer, page: str) -> dict[str, Any]:
    def read() -> dict[str, Any]:
        with urllib.request.urlopen(f"{server.http_url}/{page}?config=true") as response:
            return dict(json.load(response))

    return await asyncio.to_thread(read)


async def test_s3_listens_where_no_page_and_no_other_user_can_connect(s3_server: S3Server) -> None:
    """rclone adds `Access-Control-Allow-Origin: *` to replies, so there must be no port that a browser could ask."""
    asked = await asyncio.to_thread(psutil.Process(s3_server.pid).net_connections, "inet")
    assert asked == []
    assert stat.S_ISSOCK(s3_server.socket_path.stat().st_mode)
    assert stat.S_IMODE(s3_server.folder.stat().st_mode) == 0o700


async def test_s3_refuses_the_unsigned(s3_server: S3Server) -> None:
    def ask() -> bytes:
        with connect_unix(s3_server.socket_path, 10.0) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return connection.recv(64)

    assert b" 400 " in await asyncio.to_thread(ask)


async def test_s3_works_below_a_folder_with_a_path_too_long_for_a_socket(tmp_path: Path) -> None:
    async with S3Server(tmp_path / ("long" * 40)) as server:
        await write_s3(server, "a fact")
        assert await read_s3(server) == "a fact"


async def test_s3_keeps_what_it_had_when_it_was_killed_while_it_replaced_it(tmp_path: Path) -> None:
    async with S3Server(tmp_path) as server:
        await write_s3(server, "a fact")
        put = KeyLocks(server.address, server.bucket, timeout_seconds=1).writing("kept")
        put.__enter__()
        (server.objects_folder / server.bucket / "kept").unlink()  # as rclone does before it renames
        await server.kill()
        await server.restart()
        assert await read_s3(server) == "a fact"


async def test_s3_removes_what_a_kill_left_of_an_upload(tmp_path: Path) -> None:
    async with S3Server(tmp_path) as server:
        await write_s3(server, "a fact")
        left = server.objects_folder / server.bucket / ".rclone_temp_put_x"
        left.write_bytes(b"half an image")
        await server.kill()
        await server.restart()
        assert not left.exists()
        assert await read_s3(server) == "a fact"
