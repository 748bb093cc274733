"""The service manager of this machine or of this person: where its files are, and calls of systemctl."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.systemd.unit import UnitRole

# systemd's own way to say that it is the service manager: sd_booted(3).
BOOTED = Path("/run/systemd/system")
PROPERTIES = ("LoadState", "ActiveState", "SubState", "UnitFileState", "MainPID", "NRestarts", "StatusText", "Result")


@dataclass(frozen=True, slots=True)
class Manager:
    """The system's manager, or that of the person who calls."""

    system: bool

    def unit_path(self, role: UnitRole) -> Path:
        """Where an administrator, or a person, puts a unit (systemd.unit(5), Unit File Load Path)."""
        folder = Path("/etc/systemd/system") if self.system else _config_home() / "systemd" / "user"
        return folder / role.unit_name

    def environment_file(self, role: UnitRole) -> Path:
        """Where the settings of a unit are."""
        folder = Path("/etc/dreamforge") if self.system else _config_home() / "dreamforge"
        return folder / role.unit_name.replace(".service", ".env")

    def require(self) -> None:
        """Errors: CommandError where systemd does not run this machine."""
        if not BOOTED.is_dir():
            raise CommandError(
                "systemd does not run this machine",
                Exit.REFUSED,
                {"missing": str(BOOTED)},
                "print the unit with --print and put it where it belongs; in a container use deploy/compose",
            )

    def call(self, *arguments: str) -> str:
        """Run systemctl; its output. Errors: CommandError with what it said."""
        command = ["systemctl", *(() if self.system else ("--user",)), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise CommandError("systemctl is not installed", Exit.REFUSED) from None
        if done.returncode:
            said = done.stderr.strip() or f"exit status {done.returncode}"
            raise CommandError(f"`{' '.join(command)}` failed", facts={"it says": said}, hint=self._hint(said))
        return done.stdout

    def properties(self, role: UnitRole) -> dict[str, str]:
        """What the manager knows of a unit, by the names of systemctl. Errors: CommandError."""
        shown = self.call("show", role.unit_name, f"--property={','.join(PROPERTIES)}")
        return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    def journal(self, role: UnitRole) -> str:
        """The command that shows what a unit has printed."""
        return f"journalctl {'' if self.system else '--user '}-u {role.unit_name.removesuffix('.service')} -e"

    def _hint(self, said: str) -> str:
        if not self.system and "bus" in said:
            return "log in as the person itself (not by su or sudo), or install a system unit with --system"
        return "become root first (sudo)" if self.system and os.geteuid() != 0 else ""


def _config_home() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
