"""NATS on three hosts: the production configuration of `deploy/nats`, its TLS switched on and the runners added."""

import json
import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.fleet.certificates import CertificateFiles, write_certificates
from bench.fleet.network import ADDRESSES, HOSTS
from bench.fleet.programs import Program

from dreamforge.contracts.log.permissions import ADMIN, SERVICES, runner_user
from dreamforge.runtime.embedded.binaries import find_program
from dreamforge.runtime.log.seeds import new_seed, public_key_of
from dreamforge.runtime.log.users_text import user_block

PRODUCTION = Path(__file__).parents[2] / "deploy" / "nats"
TLS_COMMENT = '# tls { cert_file: "/tls/tls.crt", key_file: "/tls/tls.key", ca_file: "/tls/ca.crt" }'
ROUTES_LINE = "  routes: $FORGE_NATS_ROUTES\n"
RUNNERS_COMMENT = "# Here the block that `dreamforge runner add NAME` prints for each runner;"
PORT, HTTP_PORT, ROUTE_PORT = 4222, 8222, 6222
ROUTE, SYSTEM = "route", "system"


@dataclass
class NatsCluster:
    """One server a host, `stores` are their folders. Seeds of all users lie in `folder/seeds`."""

    folder: Path
    stores: Mapping[str, Path]
    runner_ids: tuple[str, ...]
    file_limit_bytes: int
    servers: dict[str, Program] = field(default_factory=dict)
    certificates: CertificateFiles = field(init=False)

    def __post_init__(self) -> None:
        self.certificates = write_certificates(self.folder / "tls", (ADDRESSES[host] for host in HOSTS))
        (self.folder / "seeds").mkdir(mode=0o700)
        for user in (*SERVICES, *map(runner_user, self.runner_ids)):
            self.seed_file(user).write_text(new_seed())
        (self.folder / "permissions.conf").write_text((PRODUCTION / "permissions.conf").read_text())
        configuration = self.folder / "nats.conf"
        configuration.write_text(self._configuration((PRODUCTION / "nats.conf").read_text()))
        for host in HOSTS:
            self.servers[host] = Program(
                name=f"nats-{host}",
                host=host,
                command=(str(find_program("nats-server")), "-c", str(configuration)),
                environment=self._environment(host),
                log_path=self.folder / f"nats-{host}.log",
                stop_signal=signal.SIGUSR2,  # lame duck: clients are sent to the other servers first
                ready_url=f"{monitor_url(host)}/healthz",
            )

    def seed_file(self, user: str) -> Path:
        """With which a service is that user."""
        return self.folder / "seeds" / f"{user}.seed"

    @property
    def url(self) -> str:
        """Of services, which have seeds."""
        return ",".join(f"tls://{ADDRESSES[host]}:{PORT}" for host in HOSTS)

    @property
    def admin_url(self) -> str:
        """Of the administrator, who makes the streams."""
        return ",".join(f"tls://{ADMIN}:{ADMIN}-word@{ADDRESSES[host]}:{PORT}" for host in HOSTS)

    @property
    def monitor_urls(self) -> str:
        """Of all servers, as a setting has them."""
        return ",".join(map(monitor_url, HOSTS))

    def _configuration(self, text: str) -> str:
        """Errors: ValueError when the production file no longer has the lines that are for this."""
        files = self.certificates
        tls = f'tls {{ cert_file: "{files.certificate}", key_file: "{files.key}", ca_file: "{files.authority}" }}'
        blocks = "".join(
            user_block(user, public_key_of(self.seed_file(user).read_text()))
            for user in map(runner_user, self.runner_ids)
        )
        text = _replaced(text, TLS_COMMENT, tls)
        text = _replaced(text, ROUTES_LINE, f"{ROUTES_LINE}  {tls}\n")
        return _replaced(text, RUNNERS_COMMENT, f"{blocks}#")

    def _environment(self, host: str) -> dict[str, str]:
        routes = [f"nats://{ROUTE}:{ROUTE}-word@{ADDRESSES[each]}:{ROUTE_PORT}" for each in HOSTS]
        values: dict[str, object] = {"SERVER_NAME": f"nats-{host}", "STORE_DIR": str(self.stores[host])}
        values |= {"LISTEN": f"0.0.0.0:{PORT}", "HTTP": f"0.0.0.0:{HTTP_PORT}"}
        values |= {"CLUSTER_LISTEN": f"{ADDRESSES[host]}:{ROUTE_PORT}", "ROUTES": routes}
        values |= {f"PASSWORD_{user.upper()}": f"{user}-word" for user in (ADMIN, SYSTEM, ROUTE)}
        values |= {f"NKEY_{user.upper()}": public_key_of(self.seed_file(user).read_text()) for user in SERVICES}
        quoted = {f"FORGE_NATS_{key}": json.dumps(value) for key, value in values.items()}
        return quoted | {"FORGE_NATS_FILE_LIMIT": str(self.file_limit_bytes), "PATH": os.defpath}


def monitor_url(host: str) -> str:
    """The monitoring address of one server."""
    return f"http://{ADDRESSES[host]}:{HTTP_PORT}"


def healthy_hosts(problems: Mapping[str, str | None]) -> Iterable[str]:
    """Hosts whose servers say that nothing is wrong."""
    return (host for host, problem in problems.items() if problem == "")


def _replaced(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise ValueError(f"{PRODUCTION / 'nats.conf'} must have exactly one {old!r}: bench.fleet replaces it")
    return text.replace(old, new)
