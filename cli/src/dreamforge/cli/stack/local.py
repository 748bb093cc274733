"""The local stack: starts servers and services, supervises them, records their addresses, stops them."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.service_settings import read_by, without_effect
from dreamforge.cli.settings import DESCRIPTORS, SHIPPED_MODELS, CliSettings, with_servers
from dreamforge.cli.stack.log_lines import parse_line
from dreamforge.cli.stack.plan import (
    ServiceSpec,
    StackOptions,
    is_waited_for,
    runner_ids,
    service_names,
    service_specs,
)
from dreamforge.cli.stack.remote import RemoteRunners, require_own_nats
from dreamforge.cli.stack.servers import embedded_servers, running_servers, start_all, stop_all, supervise_server
from dreamforge.cli.stack.service import SupervisedService
from dreamforge.cli.stack_record import StackRecord, read_record, remove_record, write_record
from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.hosts import bare
from dreamforge.runtime import clock
from dreamforge.runtime.embedded import EmbeddedServer, FolderInUse, NatsServer
from dreamforge.runtime.embedded.folder import FolderLock, kept_secrets, new_secret
from dreamforge.runtime.embedded.ports import free_port, is_taken
from dreamforge.runtime.embedded.processes import identity
from dreamforge.runtime.network import authority, reachable
from dreamforge.runtime.private_folder import make_private
from dreamforge.runtime.sandbox.privileges import refuse_inspection
from dreamforge.runtime.service.settings import given

# On two busy cores the slowest service, a runner that builds its first model, is ready in about 25 s.
READY_SECONDS = 180.0
# A service that ends this often before its first readiness has a permanent fault.
ENDS_BEFORE_GIVING_UP = 4

WEBHOOK_KEY = "FORGE_GATEWAY_WEBHOOK_KEY"

Listener = Callable[[str, str], None]


def shipped_models(state_dir: Path) -> dict[str, str]:
    """The setting for the models of the checkout, unless the stack has its own models."""
    if any((state_dir / "models").glob(DESCRIPTORS)) or not any(SHIPPED_MODELS.glob(DESCRIPTORS)):
        return {}
    return {"FORGE_RUNNER_MODELS_DIR": str(SHIPPED_MODELS.absolute())}


def _new_secrets() -> dict[str, str]:
    """What the services of this stack share, and no user has to think of."""
    return {WEBHOOK_KEY: new_secret()}


def ignore(_service: str, _line: str) -> None:
    """A listener that does nothing."""


class LocalStack:
    """All processes of `dreamforge up`; use as `async with`.

    Calls `on_event(name, text)` for events of servers and services, `on_output(name, line)` for output of services.
    """

    def __init__(
        self, settings: CliSettings, options: StackOptions, *, on_event: Listener = ignore, on_output: Listener = ignore
    ) -> None:
        self.options = replace(options, gateway_port=options.gateway_port or free_port())
        self._settings = settings
        self._state_dir = settings.state_dir.absolute()
        self._on_event, self._on_output = on_event, on_output
        self._lock = FolderLock(self._state_dir, "dreamforge up")
        self._remote = RemoteRunners(self._state_dir, options.remote, settings.nats_prefix, on_event)
        self._servers: tuple[EmbeddedServer, ...] = ()
        self._services: list[SupervisedService] = []
        self._supervisors: list[asyncio.Task[None]] = []
        self._servers_run = asyncio.Event()
        self._started_at = clock.now()
        self._ready = False

    async def start(self) -> StackRecord:
        """Start everything; returns when every service is ready.

        Errors: NotPrivate for the folder; CommandError when it or the port is in use or a service does not start,
        EmbeddedError when a server does not start. Nothing is left running after an error or a cancellation.
        """
        refuse_inspection()  # this process has what every service is given
        await self._take_folder()
        try:
            self._check_port()
            self._servers = self._make_servers()
            self._start_services()
            self._on_event("stack", f"starting {', '.join(server.name for server in self._servers) or 'no servers'}")
            await start_all(self._servers)
            await self._create_streams()
            for note in without_effect(given(), self._addresses()):
                self._on_event("stack", note)
            self._supervise_servers()
            self._servers_run.set()
            self._write()
            await self._until_ready()
            self._ready = True
            return self._write()
        except BaseException:
            await self.stop()
            raise

    def _make_servers(self) -> tuple[EmbeddedServer, ...]:
        """The servers that no setting names. Errors: CommandError for others that runners would need."""
        given_names, remote, tls = self._settings.model_fields_set, self.options.remote, None
        if remote.host:
            require_own_nats("nats_url" not in given_names)
            tls = self._remote.prepare()
            self.options = self._remote.options(self.options, self._settings.models_dir)
        return embedded_servers(
            self._state_dir,
            given_names,
            runner_ids=runner_ids(self.options),
            prefix=self._settings.nats_prefix,
            nats_port=remote.nats_port if tls else None,
            tls=tls,
        )

    async def stop(self) -> None:
        """Stop the services, then the servers that they use.

        All services at once: each ends what it has begun, and none needs another for that.
        """
        self._on_event("stack", "stopping")
        await asyncio.gather(*(service.stop() for service in self._services))
        for task in self._supervisors:
            task.cancel()
        await asyncio.gather(*self._supervisors, return_exceptions=True)
        await stop_all(self._servers)
        remove_record(self._state_dir)
        self._lock.release()
        self._on_event("stack", "stopped")

    def record(self) -> StackRecord:
        """The processes that run now."""
        services = (service.running for service in self._services)
        return StackRecord(
            pid=os.getpid(),
            identity=identity(os.getpid()) or "",
            started_at=self._started_at,
            ready=self._ready,
            folder=self._state_dir,
            gateway_url=f"http://{authority(reachable(self.options.gateway_host), self.options.gateway_port)}",
            settings=self._addresses(),
            remote=self._remote.listener() if self.options.remote.host else None,
            processes=(*running_servers(self._servers), *(process for process in services if process)),
        )

    async def _take_folder(self) -> None:
        if await asyncio.to_thread(make_private, self._state_dir):
            self._on_event("stack", f"{self._state_dir} was open to other users, and is private now")
        try:
            await self._lock.acquire()
        except FolderInUse as error:
            raise already_up(self._state_dir, error.owner_pid) from error

    def _check_port(self) -> None:
        if is_taken(self.options.gateway_port, bare(self.options.gateway_host)):
            raise CommandError(
                f"port {self.options.gateway_port} is in use by another process",
                Exit.IN_USE,
                {"setting": "FORGE_GATEWAY_PORT (or --port)"},
                "choose another port, for example FORGE_GATEWAY_PORT=8081, or stop the process that listens there",
            )

    def _addresses(self) -> dict[str, str]:
        """The FORGE_* variables of the embedded servers."""
        return {name: value for server in self._servers for name, value in server.settings_env().items()}

    def _environment(self) -> dict[str, str]:
        own = {"FORGE_STATE_DIR": str(self._state_dir), "FORGE_LOG_JSON": "true"}
        chosen = shipped_models(self._state_dir) if self._settings.runner_models_dir is None else {}
        key = {} if given()[WEBHOOK_KEY] else kept_secrets(self._state_dir / "secrets.json", _new_secrets)
        return {**key, **chosen, **os.environ, **own}

    async def _create_streams(self) -> None:
        """As the settings say; on a NATS of others, as far as they allow it: its administrator may have done it."""
        from dreamforge.cli.client.event_log import connect_bus
        from dreamforge.runtime.log.bus import ApiError
        from dreamforge.runtime.log.streams import ensure_streams

        settings = with_servers(self._settings, self._addresses())
        try:
            async with connect_bus(settings, wait=True) as bus:
                await ensure_streams(bus, replicas=settings.stream_replicas, audit_days=settings.audit_retention_days)
        except (ForgeError, ApiError) as error:
            self._on_event("stack", f"could not create the streams: {error}")

    def _supervise_servers(self) -> None:
        for server in self._servers:
            self._supervisors.append(asyncio.create_task(supervise_server(server, self._on_event, self._changed)))
            if self.options.remote.host and isinstance(server, NatsServer):
                self._supervisors.append(asyncio.create_task(self._remote.watch(server)))

    def _start_services(self) -> None:
        """Beside the servers: they import their modules meanwhile, and wait then for the addresses."""
        ports = {name: free_port() for name in service_names(self.options)}
        ports["gateway"] = self.options.gateway_port
        logs = self._state_dir / "logs"
        make_private(logs)
        environment = self._environment()
        self._services = [self._supervised(spec, environment, logs) for spec in service_specs(self.options, ports)]
        gateway, *_ = self._services
        self._supervisors += [asyncio.create_task(_supervise(service, gateway)) for service in self._services]

    def _supervised(self, spec: ServiceSpec, environment: dict[str, str], logs: Path) -> SupervisedService:
        async def addresses() -> dict[str, str]:
            await self._servers_run.wait()
            found = (server.service_env(spec.bus_user) for server in self._servers)
            return read_by(spec.kind, {name: value for each in found for name, value in each.items()})

        return SupervisedService(
            spec,
            read_by(spec.kind, environment),
            logs / f"{spec.name}.log",
            on_event=lambda text: self._on_event(spec.name, text),
            on_output=lambda line: self._on_output(spec.name, line),
            on_start=self._changed,
            settings=addresses,
            held_fds=(self._lock.fileno(),),
        )

    async def _until_ready(self) -> None:
        late = [service.spec.name for service in self._services]

        async def one(service: SupervisedService) -> None:
            if reason := await _until_service_ready(service):
                self._on_event(service.spec.name, f"is not ready: {reason}")
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
        """Write the record again, with a new pid; from when the addresses are known."""
        if self._servers_run.is_set():
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


async def _supervise(service: SupervisedService, gateway: SupervisedService) -> None:
    """Run it; one that no user waits for starts once the gateway answers, so that both have a processor each."""
    if not is_waited_for(service.spec.kind):
        await _until_answered(gateway, gateway.spec.alive_url)
    await service.supervise()


async def _until_service_ready(service: SupervisedService) -> str:
    """Why it is up and not ready, where only a person can decide how it goes on; "" when it is ready."""
    reason = await _until_answered(service, service.spec.ready_url)
    if reason is None:
        if service.settings_refused:
            raise _settings_refused(service)
        raise _not_ready(service, f"ended {service.ends_in_a_row} times before it was ready")
    return reason


async def _until_answered(service: SupervisedService, url: str) -> str | None:
    """As `until_ready`: None for a service that does not start."""
    from dreamforge.cli.stack.ready import until_ready

    def failed() -> bool:
        return service.settings_refused or service.ends_in_a_row >= ENDS_BEFORE_GIVING_UP

    return await until_ready(url, failed)


def _settings_refused(service: SupervisedService) -> CommandError:
    said = "; ".join(parse_line(line).message for line in service.last_lines)
    return CommandError(f"{service.spec.name} cannot run with these settings", Exit.REFUSED, {"it says": said})


def _not_ready(service: SupervisedService, what: str) -> CommandError:
    output = "\n      ".join(service.last_lines) or "none"
    return CommandError(
        f"{service.spec.name} {what}", Exit.FAILED, {"log": str(service.log_path), "last output": f"\n      {output}"}
    )


def already_up(state_dir: Path, pid: int) -> CommandError:
    """The error of a second `up` in the same folder."""
    record = read_record(state_dir)
    facts = {"process": str(pid), "folder": str(state_dir)} | ({"gateway": record.gateway_url} if record else {})
    hint = "use the running stack, stop it with `dreamforge down`, or set FORGE_STATE_DIR to another folder"
    return CommandError(f"a stack already runs in this folder, as process {pid}", Exit.IN_USE, facts, hint)
