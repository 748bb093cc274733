"""Runs the runner of a machine that joined, in the foreground: starts it, says when it is ready, stops it in order."""

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from dreamforge.cli.console import out
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.remote.membership import FirstMachine, Membership
from dreamforge.cli.service_settings import read_by
from dreamforge.cli.stack.log_lines import parse_line
from dreamforge.cli.stack.plan import RUNNER_DRAIN_SECONDS, ServiceSpec, worker_spec
from dreamforge.cli.stack.ready import until_ready
from dreamforge.cli.stack.service import SupervisedService
from dreamforge.cli.stack.show import LivePrinter
from dreamforge.runtime.embedded import FolderInUse
from dreamforge.runtime.embedded.folder import FolderLock
from dreamforge.runtime.embedded.ports import free_port
from dreamforge.runtime.private_folder import make_private
from dreamforge.runtime.service.lifetime import Lifetime
from dreamforge.runtime.service.signals import stop_on_signals

NAME = "gpu-runner"
# The process is given some more than the runner itself takes to drain.
CLEANUP_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class RunnerChoice:
    """How the runner renders: where its models are, with which renderer, and how long it may finish what it has."""

    models_dir: Path
    renderer: str | None = None
    drain_seconds: float = RUNNER_DRAIN_SECONDS


def runner_environment(membership: Membership, machine: FirstMachine, choice: RunnerChoice) -> dict[str, str]:
    """The settings of a runner that joined. Pure.

    Its NATS and its objects are those of the first machine, whose authority it trusts and no other.
    """
    rendered = {"FORGE_RUNNER_RENDERER": choice.renderer} if choice.renderer else {}
    return rendered | {
        "FORGE_RUNNER_ID": machine.access.runner_id,
        "FORGE_RUNNER_DRAIN_SECONDS": f"{choice.drain_seconds:g}",
        "FORGE_RUNNER_MODELS_DIR": str(choice.models_dir),
        "FORGE_RUNNER_OBJECTS_URL": machine.url,
        "FORGE_NATS_URL": machine.nats_url,
        "FORGE_NATS_CA_FILE": str(membership.authority_file),
        "FORGE_NATS_SEED_FILE": str(membership.seed_file),
        "FORGE_NATS_PREFIX": machine.access.nats_prefix,
        "FORGE_NATS_MONITOR_URL": f"{machine.url}/nats",
        "FORGE_NATS_ALLOW_UNSYNCED": str(machine.access.allow_unsynced).lower(),
        "FORGE_STATE_DIR": str(membership.state_dir),
        "FORGE_LOG_JSON": "true",
    }


async def serve_runner(membership: Membership, choice: RunnerChoice, *, quiet: bool) -> None:
    """Start the runner, print what it says, wait for a signal, stop it. Errors: CommandError."""
    printer = LivePrinter(out, (NAME, "stack"))
    machine, lock = membership.machine(), FolderLock(membership.state_dir, "dreamforge runner join")
    make_private(membership.state_dir / "logs")
    try:
        await lock.acquire()
    except FolderInUse as error:
        raise _in_use(membership.state_dir, error) from error
    service = SupervisedService(
        _spec(runner_environment(membership, machine, choice)),
        read_by(NAME, os.environ),
        membership.state_dir / "logs" / f"{NAME}.log",
        on_event=lambda text: printer.print_event(NAME, text),
        on_output=(lambda _line: None) if quiet else (lambda line: printer.print_output(NAME, line)),
        on_start=lambda: None,
        held_fds=(lock.fileno(),),
    )

    async def start(lifetime: Lifetime) -> None:
        lifetime.on_close(service.stop)
        lifetime.spawn(service.supervise(), NAME, may_end=True)
        await _until_ready(service)
        text = f"\nrunner {machine.access.runner_id} renders for {machine.url}; Ctrl-C stops it\n"
        out.print(Text(text, style="bold"))

    try:
        stop = stop_on_signals(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, exit_status=Exit.INTERRUPTED)
        await Lifetime(stop).run(start, cleanup_seconds=CLEANUP_SECONDS)
    finally:
        lock.release()


def _spec(environment: Mapping[str, str]) -> ServiceSpec:
    spec = worker_spec(NAME, NAME, free_port())
    return ServiceSpec(spec.name, spec.kind, spec.host, spec.port, {**spec.environment, **environment})


async def _until_ready(service: SupervisedService) -> None:
    """Wait for as long as it takes: a first machine that is down comes back. Errors: CommandError."""
    if await until_ready(service.spec.ready_url, lambda: service.settings_refused) is None:
        said = "; ".join(parse_line(line).message for line in service.last_lines)
        raise CommandError("the runner cannot run with these settings", Exit.REFUSED, {"it says": said})


def _in_use(state_dir: Path, error: FolderInUse) -> CommandError:
    hint = "stop it first, or set FORGE_STATE_DIR to another folder"
    facts = {"process": str(error.owner_pid), "folder": str(state_dir)}
    return CommandError("a stack or a runner runs in this folder already", Exit.IN_USE, facts, hint)
