"""The third choice for the servers of tests: Docker containers, one of each per test process.

`task test:containers` builds images of its own for them, which take what the public ones take.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from dreamforge.runtime.testing.blocking import run_blocking
from dreamforge.runtime.testing.buckets import S3Settings
from dreamforge.runtime.testing.eventually import eventually

NATS_IMAGE = os.environ.get("FORGE_TEST_NATS_IMAGE", "nats:2.15")
POSTGRES_IMAGE = os.environ.get("FORGE_TEST_POSTGRES_IMAGE", "postgres:18")
S3_IMAGE = os.environ.get("FORGE_TEST_S3_IMAGE", "rclone/rclone:1.75")
READY_SECONDS = 60.0
WORD = "forge-test"  # password of containers that exist as long as a test run and listen on this machine only


@contextmanager
def _container(
    image: str, port: int, ready_line: str, command: str = "", environment: dict[str, str] | None = None
) -> Iterator[str]:
    """host:port of a container that has printed `ready_line`."""
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import LogMessageWaitStrategy

    container = DockerContainer(image).with_exposed_ports(port).with_envs(**(environment or {}))
    container.waiting_for(LogMessageWaitStrategy(ready_line))
    with container.with_command(command) if command else container as running:
        yield f"{running.get_container_host_ip()}:{running.get_exposed_port(port)}"


@contextmanager
def nats_container() -> Iterator[str]:
    """The url of a NATS server with JetStream."""
    with _container(NATS_IMAGE, 4222, "Server is ready", f"--jetstream --auth {WORD}") as address:
        yield f"nats://{WORD}@{address}"


@contextmanager
def postgres_container() -> Iterator[str]:
    """The url of a Postgres server. Its log says too early that it is ready: images start it for themselves first."""
    environment = {"POSTGRES_USER": "forge", "POSTGRES_PASSWORD": WORD, "POSTGRES_DB": "forge"}
    with _container(POSTGRES_IMAGE, 5432, "ready to accept connections", environment=environment) as address:
        url = f"postgresql://forge:{WORD}@{address}/forge"
        run_blocking(eventually(lambda: _answers(url), READY_SECONDS))
        yield url


def _answers(url: str) -> bool:
    import psycopg

    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def s3_container() -> Iterator[S3Settings]:
    """The settings of an S3 server."""
    command = f"serve s3 --addr :8080 --auth-key forge,{WORD} /data"
    with _container(S3_IMAGE, 8080, "Starting s3 server", command) as address:
        yield S3Settings(address, "forge", WORD, "forge")
