"""What a machine keeps of the stack that it joined: where it is, whom to trust, and its own credential (mode 0600)."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from dreamforge.cli.remote.errors import not_joined
from dreamforge.runtime.network import authority
from dreamforge.runtime.private_folder import make_private, replace_private
from dreamforge.runtime.remote.replies import RemoteAccess

FOLDER = "joined"


class FirstMachine(BaseModel):
    """Where the stack is: `address` is host:port of its listener for runners, and how NATS is reached there."""

    model_config = ConfigDict(frozen=True)

    host: str
    port: int
    access: RemoteAccess

    @property
    def url(self) -> str:
        """Its listener for runners."""
        return f"https://{authority(self.host, self.port)}"

    @property
    def nats_url(self) -> str:
        """Its NATS."""
        return f"tls://{authority(self.host, self.access.nats_port)}"


@dataclass(frozen=True, slots=True)
class Membership:
    """The folder in the state folder of this machine."""

    state_dir: Path

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        return self.state_dir / FOLDER

    @property
    def authority_file(self) -> Path:
        """Whom to trust."""
        return self.folder / "authority.pem"

    @property
    def seed_file(self) -> Path:
        """The credential."""
        return self.folder / "runner.seed"

    def keep(self, machine: FirstMachine, authority_pem: str, seed: str) -> None:
        """Keep a stack in place of the one before. Errors: NotPrivate, OSError."""
        make_private(self.state_dir)
        make_private(self.folder)
        replace_private(self.authority_file, authority_pem)
        replace_private(self.seed_file, seed + "\n")
        replace_private(self.folder / "machine.json", machine.model_dump_json(indent=2) + "\n")

    def machine(self) -> FirstMachine:
        """The stack that was joined. Errors: CommandError where there is none."""
        try:
            return FirstMachine.model_validate_json((self.folder / "machine.json").read_bytes())
        except (OSError, ValidationError):
            raise not_joined() from None

    def seed(self) -> str:
        """The credential's text. Errors: CommandError where there is none."""
        try:
            return self.seed_file.read_text(encoding="ascii").strip()
        except OSError:
            raise not_joined() from None
