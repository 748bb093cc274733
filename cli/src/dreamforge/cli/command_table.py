"""The commands of `dreamforge` by name; the module of one is imported when it is called, not at the start."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from dreamforge.cli.command_group import with_gateway
from dreamforge.runtime.service.gc_tuning import leave_out_imports


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """Where a command is defined, and the line of it that `--help` and the completion show.

    `attribute` of `module` (below `dreamforge.cli.commands`) is a function, or the `app` of a group.
    `help` repeats the first line of the command's own help, which would need the import.
    """

    module: str
    attribute: str
    help: str
    asks_gateway: bool = False
    hidden: bool = False

    def listed(self, name: str) -> TyperCommand:
        """The command as a list shows it."""
        return TyperCommand(name, help=self.help, hidden=self.hidden)

    def load(self, name: str) -> Any:  # Any: typer's own copy of click
        """The command itself."""
        with leave_out_imports():
            found = getattr(import_module(f"dreamforge.cli.commands.{self.module}"), self.attribute)
        alone = typer.Typer(rich_markup_mode="rich")
        if isinstance(found, typer.Typer):
            alone.add_typer(found, name=name, hidden=self.hidden)
        else:
            alone.command(name, hidden=self.hidden)(with_gateway(found) if self.asks_gateway else found)
        return typer.main.get_group(alone).commands[name]


ENTRIES = {
    "demo": CommandEntry(
        "demo", "demo", "Start everything, render one prompt, show the events of the job, stop everything."
    ),
    "up": CommandEntry("up", "up", "Run the whole stack on this machine, in the foreground, until Ctrl-C."),
    "down": CommandEntry("down", "down", "Stop the stack of this folder in order, and wait for its end."),
    "status": CommandEntry(
        "status",
        "status",
        "Show the stack of this folder: every process with its address and pid, and what is not ready.",
    ),
    "logs": CommandEntry("logs", "logs", "Show the logs of services (.forge/logs), each in its colour."),
    "service": CommandEntry(
        "service", "app", "Run the stack, or a runner, from the start of the machine on, by systemd."
    ),
    "env": CommandEntry(
        "status", "env", "Print the FORGE_* variables of the running stack for a shell, including credentials."
    ),
    "backup": CommandEntry(
        "backup", "backup", "Save the log, the objects and the secrets of an installation into a folder, while it runs."
    ),
    "restore": CommandEntry(
        "backup",
        "restore",
        "Put a backup into an installation without events: the embedded servers of this folder, or those of settings.",
    ),
    "audit": CommandEntry(
        "audit",
        "audit",
        "Show who did what, and from where: jobs, keys, models, queues, tenants, sign-ins, refused credentials.",
    ),
    "doctor": CommandEntry("doctor", "doctor", "Say what is wrong with this installation, and what to do about it."),
    "generate": CommandEntry(
        "generate", "generate", "Render a prompt, watch it live, save the images.", asks_gateway=True
    ),
    "rerun": CommandEntry(
        "rerun",
        "rerun",
        "Render an artifact again from its recorded request, and compare the pixels.",
        asks_gateway=True,
    ),
    "verify": CommandEntry(
        "verify",
        "verify",
        "Check a picture: mark, signature, recipe, and whether the log has it.",
        asks_gateway=True,
    ),
    "import": CommandEntry(
        "import_picture",
        "import_picture",
        "Read the request in a picture of A1111, Forge, ComfyUI, InvokeAI, SwarmUI, Fooocus, NovelAI or ours.",
        asks_gateway=True,
    ),
    "mcp": CommandEntry(
        "mcp",
        "mcp",
        "Serve MCP on standard input and output, for agents that start their servers as commands.",
        asks_gateway=True,
    ),
    "certificate": CommandEntry("certificate", "app", "Make a certificate that pictures are signed with."),
    "jobs": CommandEntry("jobs", "app", "List, show, watch, cancel, retry, hold, release, explain and delete jobs."),
    "batches": CommandEntry(
        "batches",
        "app",
        "List, show, watch, cancel and download batches, made by generate with a template or a grid.",
    ),
    "queue": CommandEntry("queue", "app", "Hold and release the waiting jobs of a tenant, or all."),
    "events": CommandEntry("events", "app", "Read the event log."),
    "models": CommandEntry("models", "app", "List, show, add, scan for, download, verify and remove models."),
    "runners": CommandEntry(
        "runners", "app", "List runners, add and remove them, and join a stack on another machine."
    ),
    "runner": CommandEntry(
        "runners",
        "app",
        "List runners, add and remove them, and join a stack on another machine.",
        hidden=True,
    ),
    "streams": CommandEntry(
        "streams",
        "app",
        "Create the streams on NATS, and make users for the services (docs/bus-permissions.md).",
    ),
    "secrets": CommandEntry(
        "secrets",
        "secrets",
        "Make every secret of a new installation, one file each, and the users of its NATS server.",
    ),
    "keys": CommandEntry(
        "keys", "app", "Create, list and revoke API keys (for a gateway with FORGE_GATEWAY_AUTH=keys)."
    ),
    "tenants": CommandEntry(
        "tenants",
        "app",
        "Show and set quotas and weights of tenants; where keys are asked for, with one of scope admin.",
    ),
    "webhooks": CommandEntry(
        "webhooks", "app", "Send events of jobs to other servers, signed as Standard Webhooks says."
    ),
    "projection": CommandEntry("projection", "app", "The read tables: status, rebuild, verify, migrate."),
    "archive": CommandEntry("archive", "app", "Events of old jobs, in the object store: status."),
}


class TableGroup(TyperGroup):
    """The root: lists the commands of `ENTRIES`, and imports the one that is called."""

    def __init__(self, **options: Any) -> None:  # Any: typer's own options
        super().__init__(**options)
        self.commands.update({name: entry.listed(name) for name, entry in ENTRIES.items()})

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:  # Any: typer's own click
        """As typer's, with the command itself in place of the listed one."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, name and ENTRIES[name].load(name), rest
