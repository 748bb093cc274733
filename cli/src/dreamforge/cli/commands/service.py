"""`dreamforge service`: run the stack, or a runner, from the start of the machine on, by systemd."""

import os
import pwd
import sys
from pathlib import Path
from typing import Annotated

import typer

from dreamforge.cli.console import Json, emit, err, out
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.local_parts import require_local_parts
from dreamforge.cli.remote.membership import Membership
from dreamforge.cli.settings import from_environment
from dreamforge.cli.systemd.manager import Manager
from dreamforge.cli.systemd.unit import DEFAULT_DRAIN_SECONDS, SYSTEM_STATE_DIR, Unit, UnitRole, unit_text
from dreamforge.runtime.private_folder import PRIVATE_FILE

app = typer.Typer(
    help="Run the stack, or a runner, from the start of the machine on, by systemd.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
RoleArgument = Annotated[UnitRole, typer.Argument(help="stack: everything; runner: a runner of a stack elsewhere.")]
System = Annotated[bool, typer.Option("--system", help="The machine's service manager, not that of this user.")]
ENVIRONMENT = """\
# Settings of {unit}, FORGE_NAME=value as in .env.example; `systemctl restart` makes changes effective.
# Only its owner reads this file. FORGE_RUNNER_DRAIN_SECONDS: `dreamforge service install --drain-seconds`.
"""


@app.command()
def install(
    role: RoleArgument = UnitRole.STACK,
    system: System = False,
    user: Annotated[str, typer.Option(help="With --system: the user that it runs as.")] = "dreamforge",
    drain_seconds: Annotated[
        float, typer.Option(min=0, max=86_400, help="How long a runner may finish its job when it is stopped.")
    ] = DEFAULT_DRAIN_SECONDS,
    start: Annotated[bool, typer.Option(help="Start it now, and at each start of the machine.")] = True,
    print_: Annotated[bool, typer.Option("--print", help="Print the unit, and change nothing.")] = False,
) -> None:
    """Write a systemd unit, enable it and start it; again: replace the unit.

    A unit of this user has the data and the .env of this folder; one of the system has its data in /var/lib/dreamforge,
    unless FORGE_STATE_DIR names another folder. A runner is that of `dreamforge runner join`, if this folder has
    joined; else one with the NATS and the object store of its settings. Settings go into its environment file, which
    is never written over.

    Examples:

      dreamforge service install
      sudo dreamforge service install --system
      dreamforge service install runner --print
    """
    require_local_parts()
    manager = Manager(system)
    unit = unit_of(role, manager, user=user, drain_seconds=drain_seconds)
    if print_:
        out.file.write(unit_text(unit))
        return
    manager.require()
    if system:
        require_user(user, Path(unit.command[0]))
    _write(manager.unit_path(role), unit_text(unit), 0o644)
    if not unit.environment_file.exists():
        _write(unit.environment_file, ENVIRONMENT.format(unit=role.unit_name), PRIVATE_FILE)
    manager.call("daemon-reload")
    if start:
        manager.call("enable", role.unit_name)
        manager.call("restart", role.unit_name)
    out.print(f"{manager.unit_path(role)}  {'runs' if start else 'written; start it with systemctl'}", soft_wrap=True)
    out.print(f"settings  {unit.environment_file}\nlogs      {manager.journal(role)}", soft_wrap=True)
    if not system:
        err.print("it ends when you log out, unless `loginctl enable-linger` was called once", style="dim")


@app.command()
def uninstall(role: RoleArgument = UnitRole.STACK, system: System = False) -> None:
    """Stop it, and remove its unit; its data and its environment file remain.

    Exit code 0 also when none is installed.
    """
    manager = Manager(system)
    path = manager.unit_path(role)
    if not path.exists():
        err.print(f"no unit {path}", soft_wrap=True)
        return
    manager.require()
    manager.call("disable", "--now", role.unit_name)
    path.unlink()
    manager.call("daemon-reload")
    out.print(f"removed {path}; {manager.environment_file(role)} and the data remain", soft_wrap=True)


@app.command()
def status(role: RoleArgument = UnitRole.STACK, system: System = False, json: Json = False) -> None:
    """Say whether it runs, and since when with how many restarts; exit code 3 if it does not."""
    manager = Manager(system)
    manager.require()
    found = manager.properties(role)
    if json:
        emit(found)
    else:
        out.print(described(role, found), markup=False)
        out.print(manager.journal(role), style="dim", markup=False)
    if found.get("ActiveState") != "active":
        raise typer.Exit(Exit.UNAVAILABLE)


def unit_of(role: UnitRole, manager: Manager, *, user: str, drain_seconds: float) -> Unit:
    """The unit for this folder, or for the system. Errors: InvalidSettings."""
    settings = from_environment()
    state_dir = settings.state_dir.absolute()
    if manager.system and "state_dir" not in settings.model_fields_set:
        state_dir = SYSTEM_STATE_DIR
    return Unit(
        role=role,
        command=(sys.executable, "-m", *module_of(role, Membership(state_dir))),
        working_dir=state_dir if manager.system else Path.cwd(),
        state_dir=state_dir,
        environment_file=manager.environment_file(role),
        drain_seconds=drain_seconds,
        user=user if manager.system else "",
    )


def module_of(role: UnitRole, membership: Membership) -> tuple[str, ...]:
    """The module that a unit runs, and its arguments: a runner that has not joined has its NATS from its settings."""
    if role is UnitRole.STACK:
        return "dreamforge.cli", "up"
    return ("dreamforge.cli", "runner", "join") if membership.folder.is_dir() else ("dreamforge.gpu_runner",)


def require_user(user: str, python: Path) -> None:
    """Errors: CommandError unless the user exists and may run our interpreter."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        hint = f"useradd --system --home-dir {SYSTEM_STATE_DIR} --shell /usr/sbin/nologin {user}"
        raise CommandError(f"there is no user {user}", Exit.REFUSED, hint=hint) from None
    from dreamforge.runtime.embedded.unprivileged import open_to_others

    for folder in (python.parent, python.resolve().parent):  # of the environment, and of the interpreter it was made of
        if not open_to_others(folder):
            hint = "install Dream Forge and its Python where every user may read them, for example in /opt/dreamforge"
            raise CommandError(f"user {user} may not read {folder}", Exit.REFUSED, hint=hint)


def described(role: UnitRole, found: dict[str, str]) -> str:
    """One line for a person.

    >>> described(UnitRole.STACK, {"LoadState": "not-found"})
    'dreamforge.service is not installed'
    >>> described(UnitRole.STACK, {"ActiveState": "active", "SubState": "running", "MainPID": "7", "NRestarts": "2"})
    'dreamforge.service is active (running), process 7, 2 restarts'
    """
    if found.get("LoadState") == "not-found":
        return f"{role.unit_name} is not installed"
    parts = [f"{role.unit_name} is {found.get('ActiveState')} ({found.get('SubState')})"]
    if found.get("MainPID", "0") != "0":
        parts.append(f"process {found['MainPID']}")
    if found.get("Result", "success") != "success":
        parts.append(f"ended with {found['Result']}")
    parts.append(f"{found.get('NRestarts', '0')} restarts")
    return ", ".join(parts + ([found["StatusText"]] if found.get("StatusText") else []))


def _write(path: Path, text: str, mode: int) -> None:
    """Errors: CommandError where this user may not."""
    draft = path.with_suffix(".draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)
        draft.replace(path)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}", Exit.REFUSED, hint="sudo, for --system") from None
