"""What a local stack has for runners of other machines: certificates, addresses, and an eye on unused credentials."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.stack.plan import StackOptions
from dreamforge.cli.stack_record import RemoteListener
from dreamforge.contracts.hosts import bare, is_loopback
from dreamforge.runtime import clock
from dreamforge.runtime.embedded import NatsServer
from dreamforge.runtime.embedded.nats_server import ServerTls
from dreamforge.runtime.embedded.nats_users import FOLDER, remove_expired
from dreamforge.runtime.network import WILDCARDS, authority, internal_kind
from dreamforge.runtime.remote.settings import RemoteSettings

if TYPE_CHECKING:
    from dreamforge.runtime.tls.certificate_folder import CertificateFolder

#: Between two looks at credentials that were not used in time, and at the certificate.
LOOK_SECONDS = 10.0
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class RemoteRunners:
    """The part of a local stack that runners of other machines need."""

    state_dir: Path
    remote: RemoteSettings
    prefix: str
    on_event: Callable[[str, str], None]

    @property
    def certificates(self) -> "CertificateFolder":
        """The authority of this installation, and the certificate of this machine."""
        from dreamforge.runtime.tls.certificate_folder import CertificateFolder

        return CertificateFolder(self.state_dir / "tls")

    def prepare(self) -> ServerTls:
        """Have certificates for the names that this machine has now. Errors: NotPrivate, OSError, ValueError."""
        kept = self.certificates
        kept.ensure(self._names(), clock.now())
        return ServerTls(bare(self.remote.host), kept.server, kept.server_key, kept.authority)

    def options(self, options: StackOptions, models_dir: Path) -> StackOptions:
        """The options with what the gateway is told."""
        folders = {
            "certificates_dir": self.certificates.folder,
            "credentials_dir": self.state_dir / "nats" / FOLDER,
            "models_dir": models_dir.absolute(),
        }
        return replace(options, remote=self.remote.model_copy(update=folders))

    def listener(self) -> RemoteListener:
        """What a token says of this machine."""
        addresses = tuple(authority(name, self.remote.port) for name in reachable_names(self.remote))
        return RemoteListener(addresses=addresses, fingerprint=self.certificates.fingerprint())

    async def watch(self, nats: NatsServer) -> None:
        """Take unused credentials away when their time is over, and renew the certificate; until cancelled."""
        while True:
            await asyncio.to_thread(self._look, nats)
            await asyncio.sleep(LOOK_SECONDS)

    def _look(self, nats: NatsServer) -> None:
        expired = remove_expired(nats.folder, self.prefix, clock.now())
        for runner_id in expired:
            self.on_event("stack", f"the token of runner {runner_id} was not used in time: its credential is removed")
        if self.certificates.ensure(self._names(), clock.now()) or expired:
            nats.reload()

    def _names(self) -> tuple[str, ...]:
        own = socket.gethostname()
        return tuple(dict.fromkeys((*reachable_names(self.remote), *LOCAL_NAMES, *([own] if own.isascii() else []))))


def require_own_nats(embedded: bool) -> None:
    """Errors: CommandError where settings name another NATS, whose users and certificate are not ours."""
    if not embedded:
        raise CommandError(
            "--listen needs the NATS that `dreamforge up` starts itself, and FORGE_NATS_URL names another",
            Exit.REFUSED,
            hint="let runners connect to that NATS themselves (docs/bus-permissions.md), or leave FORGE_NATS_URL out",
        )


def reachable_names(remote: RemoteSettings) -> tuple[str, ...]:
    """The host names and addresses for other machines: those of the settings, else those that it listens on.

    >>> reachable_names(RemoteSettings(host="0.0.0.0", names="forge.example.org, 10.0.0.7"))
    ('forge.example.org', '10.0.0.7')
    >>> reachable_names(RemoteSettings(host="10.0.0.7"))
    ('10.0.0.7',)
    """
    if given := tuple(bare(name) for each in remote.names.split(",") if (name := each.strip())):
        return given
    host = bare(remote.host)
    return (host,) if host not in WILDCARDS else _own_addresses(ipv6=host == "::")


def _own_addresses(*, ipv6: bool) -> tuple[str, ...]:
    """Addresses of this machine's networks, IPv4 first; loopback where there are none."""
    families = (socket.AF_INET, socket.AF_INET6) if ipv6 else (socket.AF_INET,)
    interfaces = [each for of_one in psutil.net_if_addrs().values() for each in of_one]
    found = [each.address for family in families for each in interfaces if each.family == family]
    return tuple(dict.fromkeys(filter(_is_for_others, found))) or ("127.0.0.1",)


def _is_for_others(address: str) -> bool:
    return "%" not in address and not is_loopback(address) and internal_kind(address) != "link-local"
