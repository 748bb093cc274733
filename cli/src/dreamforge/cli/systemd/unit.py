"""The text of a systemd unit. Pure; decision 0074 has the reasons for what is hardened and what is not."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dreamforge.cli.failure import Exit
from dreamforge.cli.stack.plan import STOP_SECONDS
from dreamforge.runtime.service.settings import EXIT_SETTINGS

#: Where a system unit keeps its data unless FORGE_STATE_DIR names another folder.
SYSTEM_STATE_DIR = Path("/var/lib/dreamforge")
# Waiting for a render that does not end is of no use to a machine that shuts down; systemd itself stops at 90 s.
DEFAULT_DRAIN_SECONDS = 60.0
# After all services: the servers, together, of which the slowest is killed after 20 s.
SERVERS_STOP_SECONDS = 30.0
# Services wait at most READY_SECONDS (180) for readiness, behind servers that may recover from a crash.
START_SECONDS = 600
# Open event streams and connections; systemd's own limit is 1024.
OPEN_FILES = 65_536

# These need nothing but a filter of system calls, so they hold for user units too, and on hosts that refuse user
# namespaces to users (AppArmor of Ubuntu 24.04). Groups of calls are refused rather than allowed: drivers of GPUs use
# what they like. No MemoryDenyWriteExecute: torch makes code at run time.
HARDENING = (
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "RestrictNamespaces=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "SystemCallArchitectures=native",
    "SystemCallFilter=~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap",
    "SystemCallErrorNumber=EPERM",
    "UMask=0077",
)
# With PrivateDevices or DevicePolicy=closed a card would be out of reach: the nodes of its driver appear late.
SYSTEM_HARDENING = (
    "CapabilityBoundingSet=",
    "ProtectSystem=strict",
    "ProtectHome=read-only",
    "PrivateTmp=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "RemoveIPC=yes",
)


_HEADER = "# Written by `dreamforge service install`, which replaces it; changes belong into `systemctl edit`.\n\n"


class UnitRole(StrEnum):
    """What a unit runs: everything of one machine, or a runner of a stack elsewhere."""

    STACK = "stack"
    RUNNER = "runner"

    @property
    def unit_name(self) -> str:
        """The file name of its unit."""
        return "dreamforge.service" if self is UnitRole.STACK else "dreamforge-runner.service"


@dataclass(frozen=True, slots=True)
class Unit:
    """What differs between installations. `user` is empty for a unit of a person's own service manager."""

    role: UnitRole
    command: tuple[str, ...]
    working_dir: Path
    state_dir: Path
    environment_file: Path
    drain_seconds: float = DEFAULT_DRAIN_SECONDS
    user: str = ""

    @property
    def stop_seconds(self) -> float:
        """How long an orderly stop may take before systemd kills what is left."""
        services = self.drain_seconds + STOP_SECONDS  # they stop together, a runner last
        # `runner join` waits so long itself before it kills the runner.
        return services + (STOP_SECONDS if self.role is UnitRole.RUNNER else SERVERS_STOP_SECONDS)


def unit_text(unit: Unit) -> str:
    """The unit file, ready to be written."""
    sections = {"Unit": _unit(unit), "Service": _service(unit), "Install": _install(unit)}
    return _HEADER + "\n".join(
        f"[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections.items()
    )


def quoted(word: str) -> str:
    """One word of a value that is split at spaces, without specifiers (systemd.syntax(7), Quoting).

    >>> quoted("/opt/my forge/50%"), quoted("plain")
    ('"/opt/my forge/50%%"', 'plain')
    """
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if re.search(r"""[\s\\"';]""", word) else escaped


def _path(path: Path) -> str:
    """A path as a whole value: only specifiers are replaced there."""
    return str(path).replace("%", "%%")


def _unit(unit: Unit) -> Iterator[str]:
    what = "Dream Forge" if unit.role is UnitRole.STACK else "Runner of Dream Forge"
    yield f"Description={what}"
    if unit.user:  # a service manager of a person has no such target
        yield "Wants=network-online.target"
        yield "After=network-online.target"


def _service(unit: Unit) -> Iterator[str]:
    # A runner waits for its NATS as long as it takes, and the boot does not wait for the runner.
    yield "Type=notify" if unit.role is UnitRole.STACK else "Type=exec"
    if unit.role is UnitRole.STACK:
        yield f"TimeoutStartSec={START_SECONDS}"
    if unit.user:
        # Without a display the driver is not loaded yet; the service itself may gain no privileges. No card: ignored.
        yield "ExecStartPre=+-/usr/bin/nvidia-modprobe -u -c=0"
    yield f"ExecStart={' '.join(quoted(word.replace('$', '$$')) for word in unit.command)}"
    yield f"WorkingDirectory={_path(unit.working_dir)}"
    yield from _environment(unit)
    # `dreamforge down` ends it with status 0, and then it stays down; settings that are wrong are not tried again.
    yield "Restart=on-failure"
    yield "RestartSec=5"
    yield f"RestartPreventExitStatus={Exit.REFUSED.value} {EXIT_SETTINGS}"
    # Only the first process gets the signal: it stops the others in order, and the renderer finishes its job.
    yield "KillMode=mixed"
    yield "KillSignal=SIGTERM"
    yield f"TimeoutStopSec={unit.stop_seconds:g}"
    yield f"LimitNOFILE={OPEN_FILES}"
    yield from HARDENING
    if unit.user:
        yield from _system(unit)


def _environment(unit: Unit) -> Iterator[str]:
    yield f"Environment={quoted(f'FORGE_STATE_DIR={unit.state_dir}')}"
    yield f"Environment=FORGE_RUNNER_DRAIN_SECONDS={unit.drain_seconds:g}"
    yield f"EnvironmentFile=-{_path(unit.environment_file)}"


def _system(unit: Unit) -> Iterator[str]:
    yield f"User={unit.user}"
    yield from SYSTEM_HARDENING
    # Caches of libraries.
    yield f"Environment={quoted(f'HOME={unit.state_dir}')}"
    # Runners that share a card find each other's lock there; with PrivateTmp they would not in /tmp.
    yield "RuntimeDirectory=dreamforge"
    yield "RuntimeDirectoryMode=0700"
    yield "RuntimeDirectoryPreserve=yes"
    yield "Environment=XDG_RUNTIME_DIR=/run/dreamforge"
    if unit.state_dir == SYSTEM_STATE_DIR:
        yield f"StateDirectory={SYSTEM_STATE_DIR.name}"
        yield "StateDirectoryMode=0700"
    else:
        yield f"ReadWritePaths={quoted(str(unit.state_dir))}"


def _install(unit: Unit) -> Iterator[str]:
    yield f"WantedBy={'multi-user' if unit.user else 'default'}.target"
