"""The systems that are compared: how each is started and measured, and what each keeps when something dies."""

import asyncio
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import results
from bench.peers.environment import PeerEnvironment
from bench.peers.redis_server import Fsync, RedisServer
from bench.results import Metric

from dreamforge.runtime.embedded import GuardedProcess, PostgresServer, spawn
from dreamforge.runtime.embedded.folder import last_lines

ROOT = Path(__file__).parents[2]
OURS = "dream forge"
STOP_SECONDS = 10.0
#: As many as the runner of bench.pipeline has slots.
PROCRASTINATE_CONCURRENCY = "64"


class MeasurementFailed(Exception):
    """A system did not finish its round; the end of its log says why."""


@dataclass(frozen=True, slots=True)
class System:
    """`keeps`: what is on the disk when a client is told that its task is accepted, and what a dead worker costs.

    `fsync` is that of its Redis; none when it has no Redis.
    """

    name: str
    program: str
    keeps: str
    fsync: Fsync | None = None


SYSTEMS = (
    System(
        OURS,
        "pipeline",
        "the request is fsynced before the 202; each job five fsynced events, rows in Postgres (synchronous commit) and"
        " a picture in S3; jobs of a dead runner run elsewhere after 3 s, and end once",
    ),
    System(
        "celery, fsync always",
        "celery_peer",
        "the task is in Redis' append-only file and fsynced; what a dead worker ran is lost (acks_late is off by"
        " default), what it had fetched runs again after an hour; no result is kept",
        "always",
    ),
    System("celery, fsync none", "celery_peer", "nothing is on the disk", "none"),
    System(
        "taskiq, fsync always",
        "taskiq_peer",
        "the task is in Redis' append-only file and fsynced; tasks of a dead worker run again after ten minutes; no"
        " result is kept",
        "always",
    ),
    System("taskiq, fsync none", "taskiq_peer", "nothing is on the disk", "none"),
    System(
        "procrastinate",
        "procrastinate_peer",
        "the task is a row in Postgres (synchronous commit), with its end; tasks of a dead worker stay claimed until"
        " someone has them retried",
    ),
)


def _worker(system: System, peers: PeerEnvironment) -> list[str]:
    module = f"bench.peers.{system.program}"
    return {
        "celery_peer": [peers.program("celery"), "--app", module, "worker", "--loglevel", "WARNING"],
        "taskiq_peer": [peers.program("taskiq"), "worker", f"{module}:broker", "--log-level", "WARNING"],
        "procrastinate_peer": [
            peers.program("procrastinate"), "--app", f"{module}.app", "worker",
            "--concurrency", PROCRASTINATE_CONCURRENCY,
        ],
    }[system.program]  # fmt: skip


async def measure_ours(folder: Path, options: Sequence[str]) -> list[Metric]:
    """One round of bench.pipeline, a whole stack of its own."""
    path, log = folder / "results.json", folder / "log"
    await _finish([sys.executable, "-m", "bench.pipeline", *options, "--json", str(path)], os.environ, log)
    return [metric for metric, _ in results.read(path)["pipeline"].metrics]


async def measure_peer(system: System, peers: PeerEnvironment, folder: Path, options: Sequence[str]) -> list[Metric]:
    """One round of a peer: a server with an empty folder, a worker, a client. Errors: MeasurementFailed."""
    async with AsyncExitStack() as stack:
        server: RedisServer | PostgresServer
        if system.fsync is not None:
            assert peers.redis_server is not None, "main leaves such a system out"
            server = await stack.enter_async_context(RedisServer(folder / "redis", peers.redis_server, system.fsync))
        else:
            server = await stack.enter_async_context(PostgresServer(folder / "postgres"))
        environment = _environment(server.url, folder)
        if system.program == "procrastinate_peer":
            schema = [*_worker(system, peers)[:3], "schema", "--apply"]
            await _finish(schema, environment, folder / "schema.log")
        log = stack.enter_context((folder / "worker.log").open("wb"))
        worker = await spawn(_worker(system, peers), environment=environment, folder=ROOT, output=log)
        stack.push_async_callback(worker.stop, grace_seconds=STOP_SECONDS)
        path = folder / "results.json"
        client = [str(peers.python), "-m", f"bench.peers.{system.program}", *options, "--json", str(path)]
        try:
            await _finish(client, environment, folder / "client.log")
        except MeasurementFailed as error:
            raise MeasurementFailed(f"{error}\nits worker:\n{last_lines(folder / 'worker.log', 0)}") from None
        (found,) = results.read(path).values()
        return [metric for metric, _ in found.metrics]


def _environment(url: str, folder: Path) -> dict[str, str]:
    """Of this process, without its own packages."""
    own = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    told = {"BENCH_QUEUE_URL": url, "BENCH_TASK_LOG": str(folder / "tasks"), "PYTHONPATH": str(ROOT)}
    return {**own, **told}


async def _finish(command: Sequence[str], environment: Mapping[str, str], log_path: Path) -> None:
    with log_path.open("wb") as log:
        process: GuardedProcess = await spawn(list(command), environment=dict(environment), folder=ROOT, output=log)
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            await process.kill()
            raise
    if code:
        raise MeasurementFailed(f"{' '.join(command)} ended with {code}:\n{last_lines(log_path, 0)}")


async def measure(system: System, peers: PeerEnvironment | None, options: Sequence[str]) -> list[Metric]:
    """One round of a system, started anew."""
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as name:
        if system.name == OURS:
            return await measure_ours(Path(name), options)
        assert peers is not None, "main leaves such a system out"
        return await measure_peer(system, peers, Path(name), options)
