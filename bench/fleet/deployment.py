"""What runs where: NATS on every host, Postgres on two, S3 on one, and two or more of each service."""

import asyncio
import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import nats.errors
from bench.fleet.clocks import clock_environment
from bench.fleet.failover import FailoverManager
from bench.fleet.nats_cluster import NatsCluster
from bench.fleet.network import ADDRESSES, HOSTS, Network
from bench.fleet.placement import POSTGRES_HOSTS, RUNNERS, S3_HOST, SERVICES
from bench.fleet.postgres_pair import PostgresPair
from bench.fleet.programs import Program
from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from nats.js.errors import APIError

from dreamforge.contracts.log.permissions import runner_user
from dreamforge.migrations import upgrade
from dreamforge.runtime.embedded.binaries import find_program
from dreamforge.runtime.log.bus import connect
from dreamforge.runtime.log.streams import ensure_streams
from dreamforge.runtime.storage.settings import StorageSettings
from dreamforge.runtime.testing import eventually

FIRST_SERVICE_PORT, S3_PORT = 8080, 9000
ACCESS_KEY, SECRET_KEY, BUCKET = "fleet", "fleet-secret-word", "forge-artifacts"
NATS_STORE_BYTES, POSTGRES_STORE_BYTES = 192 * 2**20, 320 * 2**20
# What NATS is told: streams of progress reserve two of it. Its disk is full long before.
NATS_LIMIT_BYTES = 10 * 2**30
REPLICAS = 3
READY_SECONDS = 120.0
LOOK_SECONDS = 0.2
# Its folders come before those of installed packages.
PYTHON_PATH = "PYTHONPATH"
MIGRATE = "import sys; from dreamforge.migrations import upgrade; upgrade(sys.argv[1])"


@dataclass
class Deployment:
    """The whole fleet, while it is entered. `faulty` has the hosts that are not repaired yet.

    `older`: a checkout of an earlier release, which services run until they are upgraded.
    """

    folder: Path
    network: Network
    step_delay_seconds: float
    moves_clocks: bool = False
    older: Path | None = None
    programs: dict[str, Program] = field(default_factory=dict)
    faulty: set[str] = field(default_factory=set)
    nats: NatsCluster = field(init=False)
    postgres: PostgresPair = field(init=False)
    manager: FailoverManager = field(init=False)
    _mounted: list[Path] = field(default_factory=list)
    _managing: "asyncio.Task[None] | None" = None

    def store(self, what: str, host: str) -> Path:
        """The small disk of a server on a host."""
        return self.folder / f"{what}-store-{host}"

    async def __aenter__(self) -> Self:
        try:
            self._mount_stores()
            await self._start_servers()
            for number, (name, host) in enumerate(SERVICES):
                self._start_service(name, host, FIRST_SERVICE_PORT + number)
            if missing := await self.until_whole(READY_SECONDS):
                raise RuntimeError(f"the fleet is not whole after {READY_SECONDS:g} s: {', '.join(missing)}")
        except BaseException:
            await self.close()
            raise
        return self

    async def _start_servers(self) -> None:
        nats_stores = {host: self.store("nats", host) for host in HOSTS}
        self.nats = NatsCluster(self.folder, nats_stores, RUNNERS, NATS_LIMIT_BYTES)
        os.environ["SSL_CERT_FILE"] = str(self.nats.certificates.authority)  # for our own connections
        stores = {host: self.store("postgres", host) for host in POSTGRES_HOSTS}
        self.postgres = PostgresPair(stores, self.folder, POSTGRES_HOSTS[0])
        self._add(self._s3()).start()
        for server in self.nats.servers.values():
            self._add(server).start()
        for server in self.postgres.servers.values():
            self._add(server)
        await self.postgres.create()
        await asyncio.gather(self._create_streams(), self._create_tables())
        self.manager = FailoverManager(self.postgres, self.faulty.__contains__)
        self._managing = asyncio.create_task(self.manager.run(), name="failover manager")

    def _mount_stores(self) -> None:
        for what, size, hosts in (
            ("nats", NATS_STORE_BYTES, HOSTS),
            ("postgres", POSTGRES_STORE_BYTES, POSTGRES_HOSTS),
        ):
            for host in hosts:
                path = self.store(what, host)
                path.mkdir(mode=0o755)
                subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "fleet", str(path)], check=True)
                self._mounted.append(path)
        (self.folder / "objects" / BUCKET).mkdir(parents=True)

    def _unmount_stores(self) -> None:
        for path in self._mounted:
            subprocess.run(["umount", "--lazy", str(path)], check=False)

    def _add(self, program: Program) -> Program:
        self.programs[program.name] = program
        return program

    def _s3(self) -> Program:
        command = (str(find_program("rclone")), "serve", "s3", str(self.folder / "objects"),
                   "--addr", f"{ADDRESSES[S3_HOST]}:{S3_PORT}", "--config", "", "--vfs-cache-mode", "off")  # fmt: skip
        environment = {"RCLONE_AUTH_KEY": f'"{ACCESS_KEY},{SECRET_KEY}"', "PATH": os.defpath}
        return Program("s3", S3_HOST, command, environment, self.folder / "s3.log")

    async def _create_streams(self) -> None:
        bus = await connect(self.nats.admin_url, "fleet")
        try:
            await eventually(lambda: _replicates(bus.nc.jetstream(timeout=1)), READY_SECONDS)
            await ensure_streams(bus, replicas=REPLICAS)
        finally:
            await bus.nc.close()

    async def _create_tables(self) -> None:
        """Those of the release that the services run first."""
        environment = {**os.environ, **self._older_path()}
        await asyncio.to_thread(
            subprocess.run, (sys.executable, "-c", MIGRATE, self.postgres.url), env=environment, check=True
        )

    def _older_path(self) -> dict[str, str]:
        return {PYTHON_PATH: os.pathsep.join(map(str, sorted(self.older.glob("*/src"))))} if self.older else {}

    def _start_service(self, name: str, host: str, port: int) -> None:
        kind = name.split("-")[0]
        module = "gpu_runner" if kind == "runner" else kind
        here = {"FORGE_HEALTH_HOST": ADDRESSES[host], "FORGE_HEALTH_PORT": str(port)}
        if kind == "gateway":
            here = {"FORGE_GATEWAY_HOST": ADDRESSES[host], "FORGE_GATEWAY_PORT": str(port)}
        user = runner_user(name) if kind == "runner" else kind
        own = {"FORGE_RUNNER_ID": name, "FORGE_NATS_SEED_FILE": str(self.nats.seed_file(user))}
        own |= clock_environment(self.folder, host) if self.moves_clocks else {}
        own |= self._older_path()
        full_name = name if kind == "runner" else f"{name}-{host}"
        program = Program(
            name=full_name,
            host=host,
            command=(sys.executable, "-m", f"dreamforge.{module}"),
            environment={**self.service_environment(), **here, **own},
            log_path=self.folder / f"{full_name}.log",
            ready_url=f"http://{ADDRESSES[host]}:{port}/readyz",
        )
        self._add(program).start()

    def service_environment(self) -> dict[str, str]:
        """What every service gets."""
        own = {
            "FORGE_STATE_DIR": str(self.folder / "state"),
            "FORGE_NATS_URL": self.nats.url,
            "FORGE_NATS_MONITOR_URL": self.nats.monitor_urls,
            "SSL_CERT_FILE": str(self.nats.certificates.authority),
            "FORGE_STREAM_REPLICAS": str(REPLICAS),
            "FORGE_DATABASE_URL": self.postgres.url,
            **self.s3_environment(),
            "FORGE_GATEWAY_UNPROTECTED": "true",  # nothing else reaches these namespaces
            "FORGE_LOG_JSON": "false",
            "FORGE_RETRY_MAX_ATTEMPTS": "50",  # an injected fault must not use up a job's attempts
            "FORGE_RETRY_CAP_SECONDS": "2",
            "FORGE_RUNNER_RENDERER": "synthetic",
            "FORGE_RUNNER_SLOTS": "4",
            "FORGE_RUNNER_STEP_DELAY_SECONDS": str(self.step_delay_seconds),
            "FORGE_RUNNER_STALL_SECONDS": "10",
            "FORGE_RUNNER_DRAIN_SECONDS": "15",
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
        }
        return {**os.environ, **own}

    def s3_environment(self) -> dict[str, str]:
        """Where the objects are."""
        return {
            "FORGE_S3_ENDPOINT": f"{ADDRESSES[S3_HOST]}:{S3_PORT}",
            "FORGE_S3_ACCESS_KEY": ACCESS_KEY,
            "FORGE_S3_SECRET_KEY": SECRET_KEY,
            "FORGE_S3_BUCKET": BUCKET,
            "FORGE_S3_SECURE": "false",
        }

    def storage_settings(self) -> StorageSettings:
        """For the checks."""
        given = {"FORGE_DATABASE_URL": self.postgres.url, **self.s3_environment()}
        return StorageSettings(_env_file=None, **{k.removeprefix("FORGE_").lower(): v for k, v in given.items()})  # type: ignore[arg-type]

    async def migrate(self) -> None:
        """Bring the tables to this release, while services of the older one use them."""
        await asyncio.to_thread(upgrade, self.postgres.url)

    def upgrade(self, program: Program) -> None:
        """From its next start on, a service runs this release."""
        program.environment = {name: value for name, value in program.environment.items() if name != PYTHON_PATH}

    def gateways(self) -> tuple[str, ...]:
        """Their addresses."""
        found = (each.ready_url for each in self.programs.values() if each.kind == "gateway")
        return tuple(url.removesuffix("/readyz") for url in found)

    def of_host(self, host: str) -> list[Program]:
        """Every program of a host."""
        return [each for each in self.programs.values() if each.host == host]

    def own_ends(self) -> list[str]:
        """Services that ended although nothing asked them to, with their return codes."""
        return [
            f"{each.name}: {code}" for each in self.programs.values() for code in each.own_ends if not each.is_server
        ]

    async def missing(self) -> list[str]:
        """What is not as it should be; empty when the fleet is whole."""
        asked = [each for each in self.programs.values() if each.ready_url]
        async with httpx.AsyncClient(timeout=2.0, trust_env=False) as client:
            answers = await asyncio.gather(*(_is_ready(client, each.ready_url) for each in asked))
        found = [each.name for each, ready in zip(asked, answers, strict=True) if not ready]
        found += [] if await self.postgres.replicates() else ["standby"]
        return found

    async def until_whole(self, seconds: float) -> list[str]:
        """Wait until nothing is missing; what still is when the time is over."""
        missing = ["everything"]

        async def is_whole() -> bool:
            nonlocal missing
            missing = await self.missing()
            return not missing

        with contextlib.suppress(AssertionError):
            await eventually(is_whole, seconds, interval_seconds=LOOK_SECONDS)
        return missing

    async def close(self) -> None:
        """Stop everything and give the disks back."""
        if self._managing is not None:
            self._managing.cancel()
        for servers in (False, True):  # services first, while they can say that they stop
            ending = (each.close() for each in self.programs.values() if each.is_server == servers)
            await asyncio.gather(*ending, return_exceptions=True)
        await asyncio.to_thread(self._unmount_stores)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def _replicates(js: JetStreamContext) -> bool:
    """The three have found each other and elected: only then can a stream with three replicas be made."""
    try:
        await js.add_stream(StreamConfig(name="PROBE", subjects=["probe"], num_replicas=REPLICAS))
        await js.delete_stream("PROBE")
    except (nats.errors.Error, APIError, TimeoutError):
        return False
    return True


async def _is_ready(client: httpx.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url)).status_code == 200
    except httpx.HTTPError:
        return False
