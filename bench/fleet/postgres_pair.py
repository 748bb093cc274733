"""Postgres with a standby by streaming replication, and what a failover manager does: fence, promote, rebuild."""

import asyncio
import os
import pwd
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from bench.fleet.network import ADDRESSES, NETWORK_BITS, inside
from bench.fleet.programs import Program
from psycopg import sql

from dreamforge.runtime.embedded.binaries import find_postgres_folder
from dreamforge.runtime.testing import eventually

PORT = 5432
ROLE = DATABASE = "forge"
ADMIN, PASSWORD = "postgres", "fleet-word"
USER = "nobody"  # Postgres refuses to run as root
CONNECT_SECONDS, START_SECONDS = 2, 60.0
SETTINGS = {
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "hot_standby": "on",
    "wal_keep_size": "64MB",
    "min_wal_size": "32MB",
    "max_wal_size": "64MB",
    "wal_sender_timeout": "5s",
    "wal_receiver_timeout": "5s",
}
Answer = tuple[object, ...]


@dataclass
class PostgresPair:
    """One server on each of two hosts; `primary` is where it can be written."""

    stores: Mapping[str, Path]
    logs: Path
    primary: str
    servers: dict[str, Program] = field(default_factory=dict)
    failovers: list[str] = field(default_factory=list)
    rebuilding: bool = False

    def __post_init__(self) -> None:
        for host in self.stores:
            settings = {**SETTINGS, "listen_addresses": ADDRESSES[host], "port": str(PORT)}
            options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
            self.servers[host] = Program(
                name=f"postgres-{host}",
                host=host,
                command=_unprivileged("postgres", "-D", str(self._data(host)), *options),
                environment=_environment(),
                log_path=self.logs / f"postgres-{host}.log",
                stop_signal=signal.SIGINT,
            )

    @property
    def standby(self) -> str:
        """The other host."""
        return next(host for host in self.stores if host != self.primary)

    @property
    def url(self) -> str:
        """As services are given it: whichever of both can be written."""
        hosts = ",".join(f"{ADDRESSES[host]}:{PORT}" for host in self.stores)
        return f"postgresql://{ROLE}:{PASSWORD}@{hosts}/{DATABASE}?target_session_attrs=read-write"

    async def create(self) -> None:
        """Both servers with an empty database, one following the other."""
        data = self._data(self.primary)
        os.chown(data.parent, _user().pw_uid, _user().pw_gid)
        password = data.parent / "password"
        password.write_text(PASSWORD)
        os.chown(password, _user().pw_uid, _user().pw_gid)
        await self._tool(self.primary, "initdb", "-D", str(data), "-U", ADMIN, f"--pwfile={password}",
                         "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--wal-segsize=4")  # fmt: skip
        password.unlink()
        network = f"{ADDRESSES[self.primary]}/{NETWORK_BITS}"
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {network} scram-sha-256\nhost replication {ADMIN} {network} scram-sha-256\n")
        self.servers[self.primary].start()
        await self._until_it_answers(self.primary)
        await self._ask(self.primary, sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(
            sql.Identifier(ROLE), sql.Literal(PASSWORD)))  # fmt: skip
        await self._ask(self.primary, sql.SQL("CREATE DATABASE {0} OWNER {0}").format(sql.Identifier(ROLE)))
        await self.rebuild_standby()

    async def rebuild_standby(self) -> None:
        """Make the other server anew, as a copy of the primary that follows it."""
        host, data = self.standby, self._data(self.standby)
        self.rebuilding = True
        try:
            await self.servers[host].hold_down()
            shutil.rmtree(data, ignore_errors=True)
            os.chown(data.parent, _user().pw_uid, _user().pw_gid)
            source = f"postgresql://{ADMIN}:{PASSWORD}@{ADDRESSES[self.primary]}:{PORT}/?connect_timeout=3"
            await self._tool(host, "pg_basebackup", "-D", str(data), "-d", source, "-R", "-X", "stream", "-c", "fast")
            self.servers[host].start()
            await self._until_it_answers(host)
        finally:
            self.rebuilding = False

    async def fail_over(self) -> None:
        """Fence the primary (its server stays down), then make the standby the primary."""
        fenced, promoted = self.primary, self.standby
        await self.servers[fenced].hold_down()
        await self._ask(promoted, sql.SQL("SELECT pg_promote(true, 30)"))
        self.primary = promoted
        self.failovers.append(f"{fenced} to {promoted}")

    async def answers(self, host: str) -> bool:
        """Whether a query to this server is answered in time."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._ask(host, sql.SQL("SELECT 1"))
        except (psycopg.Error, OSError, TimeoutError):
            return False
        return True

    async def replicates(self) -> bool:
        """Whether the standby follows the primary."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                rows = await self._ask(self.primary, sql.SQL("SELECT state FROM pg_stat_replication"))
        except (psycopg.Error, OSError, TimeoutError):
            return False
        return ("streaming",) in rows

    async def _until_it_answers(self, host: str) -> None:
        await eventually(lambda: self.answers(host), START_SECONDS)

    async def _ask(self, host: str, query: sql.SQL | sql.Composed) -> list[Answer]:
        url = f"postgresql://{ADMIN}:{PASSWORD}@{ADDRESSES[host]}:{PORT}/postgres?connect_timeout={CONNECT_SECONDS}"
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            cursor = await connection.execute(query)
            return await cursor.fetchall() if cursor.description else []

    async def _tool(self, host: str, program: str, *words: str) -> None:
        command = inside(host, *_unprivileged(program, *words))
        process = await asyncio.create_subprocess_exec(
            *command, env=_environment(), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"{program} on host {host}: {output.decode()[-800:]}")

    def _data(self, host: str) -> Path:
        return self.stores[host] / "data"


def _unprivileged(program: str, *words: str) -> tuple[str, ...]:
    user = (f"--reuid={_user().pw_uid}", f"--regid={_user().pw_gid}", "--clear-groups")
    return ("setpriv", *user, str(find_postgres_folder() / program), *words)


def _user() -> pwd.struct_passwd:
    return pwd.getpwnam(USER)


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LC_ALL": "C", "PGTZ": "UTC", "HOME": "/"}
