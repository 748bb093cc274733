"""A broker that cannot keep our promises is refused at the door, and a lost one is waited for."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from dreamforge.contracts.errors import BrokerUnfit, DependencyAway
from dreamforge.runtime import clock
from dreamforge.runtime.embedded import NatsServer, spawn
from dreamforge.runtime.embedded.binaries import find_program
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.log import bus as bus_module
from dreamforge.runtime.testing import eventually

INFO = {"server_id": "old", "version": "2.9.25", "proto": 1, "max_payload": 1_048_576, "headers": True}


@asynccontextmanager
async def old_server() -> AsyncIterator[str]:
    """Speaks as much of the protocol as a client hears before it asks for JetStream."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"INFO {json.dumps(INFO)}\r\n".encode())
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_a_server_that_is_too_old_is_refused_with_what_is_needed() -> None:
    async with old_server() as url:
        with pytest.raises(BrokerUnfit, match=r"version 2\.9, and 2\.14 or newer is needed"):
            await bus_module.connect(url, "test")


CONFIGURATION = """
listen: "[::1]:{port}"
authorization {{ users: [ {{ user: "for@ge", password: "p@ss:w%rd/ü" }} ] }}
jetstream {{ store_dir: "{folder}" }}
"""


async def test_credentials_in_a_url_are_percent_decoded_and_its_host_may_be_ipv6(tmp_path: Path) -> None:
    port, configuration = free_port(), tmp_path / "nats.conf"
    configuration.write_text(CONFIGURATION.format(port=port, folder=tmp_path), encoding="utf-8")
    command = [str(find_program("nats-server")), "--config", str(configuration)]
    with (tmp_path / "nats.log").open("wb") as log:
        process = await spawn(command, output=log)
    try:
        url = f"nats://for%40ge:p%40ss%3Aw%25rd%2F%C3%BC@[::1]:{port}"
        async with asyncio.timeout(20):
            bus = await bus_module.connect(url, "test")
        await bus.check()
        await bus.close()
    finally:
        await process.kill()


async def test_a_request_on_a_connection_that_breaks_fails_at_once(nats_server: NatsServer) -> None:
    bus = await bus_module.connect(nats_server.url, "test")

    async def never(_: object) -> None:
        return None

    await bus.nc.subscribe("silence", cb=never)
    asking = asyncio.create_task(bus.ask("silence", b""))
    await bus.nc.flush()
    began = clock.monotonic_seconds()
    await nats_server.kill()
    with pytest.raises(DependencyAway):
        await asking
    assert clock.monotonic_seconds() - began < bus_module.REQUEST_TIMEOUT_SECONDS / 2
    await bus.close()


async def test_a_cancellation_that_comes_together_with_an_answer_is_not_lost(nats_url: str) -> None:
    """It was, with the client's own time-out on Python 3.11: a follower then never ended."""
    bus = await bus_module.connect(nats_url, "test")
    await bus.nc.subscribe("unanswered")
    asking = asyncio.create_task(bus.ask("unanswered", b""))
    (answer,) = (await eventually(lambda: bus.nc._resp_map)).values()
    answer.set_result(Msg(_client=bus.nc))
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await bus.close()


async def test_an_error_of_one_receiver_ends_nothing_but_its_message(nats_url: str) -> None:
    bus = await bus_module.connect(nats_url, "test")
    taken: list[bytes] = []

    def take(message: Msg) -> None:
        if message.data == b"bad":
            raise ValueError(message.data)
        taken.append(message.data)

    subscription = await bus.nc.subscribe_directly("words", take)
    for word in (b"bad", b"good"):
        await bus.publish("words", word)
    await eventually(lambda: taken, until=lambda found: found == [b"good"])
    assert "streams" in await bus.request("$JS.API.INFO", None)
    await subscription.unsubscribe()
    await bus.publish("words", b"late")
    await bus.nc.flush()
    assert taken == [b"good"]
    await bus.close()


async def test_who_does_not_wait_is_told_that_nothing_listens_once_every_server_has_refused() -> None:
    nobody = ",".join(f"nats://{host}:{free_port()}" for host in ("127.0.0.1", "localhost"))
    async with asyncio.timeout(30):
        with pytest.raises(OSError, match=r"\[Errno \d+\]") as refused:
            await bus_module.connect(nobody, "test", wait=False)
    assert bus_module.is_refused(refused.value)


async def test_who_does_not_wait_is_connected_by_any_server_and_keeps_the_connection(nats_server: NatsServer) -> None:
    lost: list[str] = []
    bus = await bus_module.connect(f"nats://127.0.0.1:{free_port()},{nats_server.url}", "test", wait=False)
    bus.on_reconnect.add(lambda: lost.append("and connected again"))
    await nats_server.restart()
    await eventually(lambda: lost, 30)
    await bus.check()
    await bus.close()
