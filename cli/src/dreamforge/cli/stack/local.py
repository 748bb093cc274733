"""The local stack: starts everything, keeps it alive, writes down where it is, and stops it in order."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.settings import CliSettings
from dreamforge.cli.stack.plan import STOP_ORDER, ServiceSpec, StackOptions, service_names, service_specs
from dreamforge.cli.stack.ready import until_ready
from dreamforge.cli.stack.record import StackRecord, read_record, remove_record, write_record
from dreamforge.cli.stack.servers import keep_server, own_servers, running_servers, start_all, stop_all
from dreamforge.cli.stack.service import KeptService
from dreamforge.runtime import clock
from dreamforge.runtime.embedded import FolderInUse
from dreamforge.runtime.embedded.folder import FolderLock
from dreamforge.runtime.embedded.ports import free_port, is_taken
from dreamforge.runtime.embedded.processes import identity

# On two busy cores the slowest service, a runner that builds its first model, is ready in about 25 s.
READY_SECONDS = 180.0
# A service that ends this often before it was ready once has a lasting reason.
ENDS_BEFORE_GIVING_UP = 4

Say = Callable[[str, str], None]

# The models that come with a checkout, where `up` is run in one.
SHIPPED_MODELS = Path("models")
DESCRIPTORS = "*/dreamforge.json"


def shipped_models(state_dir: Path) -> dict[str, str]:
    """Use the models of the checkout, unless the stack has models of its own."""
    if any((state_dir / "models").glob(DESCRIPTORS)) or not any(SHIPPED_MODELS.glob(DESCRIPTORS)):
        return {}
    return {"FORGE_RUNNER_MODELS_DIR": str(SHIPPED_MODELS.absolute())}


def nobody(_service: str, _line: str) -> None:
    """A listener that does not care."""


class LocalStack:
    """Everything that `dreamforge up` runs; use as `async with`.

    `say(name, text)` hears what happens to a server or service, `listen(name, line)` what services print.
    """

    def __init__(
        self, settings: CliSettings, options: StackOptions, *, say: Say = nobody, listen: Say = nobody
    ) -> None:
        self.options = replace(options, gateway_port=options.gateway_port or free_port())
        self._settings = settings
        self._state_dir = settings.state_dir.absolute()
        self._say, self._listen = say, listen
        self._lock = FolderLock(self._state_dir, "dreamforge up")
        self._servers = own_servers(self._state_dir, settings.model_fields_set)
        self._services: list[KeptService] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._started_at = clock.now()
        self._ready = False

    async def start(self) -> StackRecord:
        """Returns once every service is ready.

        Errors: CommandError when the folder or the port is in use or a service cannot come up, EmbeddedError
        when a server cannot. Nothing is left running after an error or a cancellation.
        """
        await self._take_folder()
        try:
            self._check_port()
            self._say("stack", f"starting {', '.join(server.name for server in self._servers) or 'no servers'}")
            await start_all(self._servers)
            self._keep_servers()
            self._start_services()
            self._write()
            await self._until_ready()
            self._ready = True
            return self._write()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Services first, in order, then the servers they stand on."""
        self._say("stack", "stopping")
        for kind in STOP_ORDER:
            await asyncio.gather(*(service.stop() for service in self._services if service.spec.kind == kind))
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await stop_all(self._servers)
        remove_record(self._state_dir)
        self._lock.release()
        self._say("stack", "stopped")

    def record(self) -> StackRecord:
        """What runs at this moment."""
        services = (service.running for service in self._services)
        return StackRecord(
            pid=os.getpid(),
            identity=identity(os.getpid()) or "",
            started_at=self._started_at,
            ready=self._ready,
            folder=self._state_dir,
            gateway_url=f"http://{self.options.gateway_host}:{self.options.gateway_port}",
            settings=self._addresses(),
            processes=(*running_servers(self._servers), *(process for process in services if process)),
        )

    async def _take_folder(self) -> None:
        try:
            await self._lock.acquire()
        except FolderInUse as error:
            raise already_up(self._state_dir, error.owner_pid) from error

    def _check_port(self) -> None:
        if is_taken(self.options.gateway_port):
            raise CommandError(
                f"port {self.options.gateway_port} is in use by another process",
                Exit.IN_USE,
                {"setting": "FORGE_GATEWAY_PORT (or --port)"},
                "choose another port, for example FORGE_GATEWAY_PORT=8081, or stop what listens there",
            )

    def _addresses(self) -> dict[str, str]:
        """The variables that reach our servers."""
        return {name: value for server in self._servers for name, value in server.settings_env().items()}

    def _environment(self) -> dict[str, str]:
        own = {"FORGE_STATE_DIR": str(self._state_dir), "FORGE_LOG_JSON": "true"}
        return {**shipped_models(self._state_dir), **os.environ, **self._addresses(), **own}

    def _keep_servers(self) -> None:
        for server in self._servers:
            self._keepers.append(asyncio.create_task(keep_server(server, self._say, self._changed)))

    def _start_services(self) -> None:
        ports = {name: free_port() for name in service_names(self.options)}
        ports["gateway"] = self.options.gateway_port
        logs = self._state_dir / "logs"
        logs.mkdir(exist_ok=True)
        environment = self._environment()
        self._services = [self._kept(spec, environment, logs) for spec in service_specs(self.options, ports)]
        self._keepers += [asyncio.create_task(service.keep()) for service in self._services]

    def _kept(self, spec: ServiceSpec, environment: dict[str, str], logs: Path) -> KeptService:
        return KeptService(
            spec,
            environment,
            logs / f"{spec.name}.log",
            say=lambda text: self._say(spec.name, text),
            listen=lambda line: self._listen(spec.name, line),
            changed=self._changed,
            held_fds=(self._lock.fileno(),),
        )

    async def _until_ready(self) -> None:
        late = [service.spec.name for service in self._services]

        async def one(service: KeptService) -> None:
            await _until_service_ready(service)
            late.remove(service.spec.name)

        waits = [asyncio.create_task(one(service)) for service in self._services]
        try:
            async with asyncio.timeout(READY_SECONDS):
                await asyncio.gather(*waits)
        except TimeoutError:
            slow = next(service for service in self._services if service.spec.name in late)
            raise _not_ready(slow, f"is not ready after {READY_SECONDS:g} s") from None
        finally:
            for wait in waits:
                wait.cancel()

    def _changed(self) -> None:
        """A pid is new: whoever reads the record must find it."""
        self._write()

    def _write(self) -> StackRecord:
        record = self.record()
        write_record(record, self._state_dir)
        return record

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def _until_service_ready(service: KeptService) -> None:
    if not await until_ready(service.spec.ready_url, lambda: service.ends_in_a_row >= ENDS_BEFORE_GIVING_UP):
        raise _not_ready(service, f"ended {service.ends_in_a_row} times before it was ready")


def _not_ready(service: KeptService, what: str) -> CommandError:
    said = "\n      ".join(service.last_lines) or "nothing"
    return CommandError(
        f"{service.spec.name} {what}", Exit.FAILED, {"log": str(service.log_path), "it last said": f"\n      {said}"}
    )


def already_up(state_dir: Path, pid: int) -> CommandError:
    """What a second `up` in the same folder is told."""
    record = read_record(state_dir)
    facts = {"process": str(pid), "folder": str(state_dir)} | ({"gateway": record.gateway_url} if record else {})
    hint = "use the one that runs, stop it with `dreamforge down`, or set FORGE_STATE_DIR to another folder"
    return CommandError(f"a stack already runs in this folder, as process {pid}", Exit.IN_USE, facts, hint)
