"""Does the faults to a deployment, and measures how long its clients felt each and how long it took to be whole."""

import asyncio
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from bench.fleet.clocks import clock_file
from bench.fleet.deployment import Deployment
from bench.fleet.disks import full_disk
from bench.fleet.faults import CLOCK_SECONDS, Fault, Kind
from bench.fleet.link_rules import OPEN
from bench.fleet.programs import Program, signal_host
from bench.fleet.sdk_clients import SdkClients
from bench.log_observer import LogObserver

from dreamforge.contracts.log.subjects import entity_of
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.log.monitoring import problem_of

WHOLE_SECONDS = 120.0
JOBS_SECONDS = 120.0
UPGRADE_STOP_SECONDS = 120.0
UPGRADE_ORDER = ("projector", "scheduler", "gateway", "runner")


@dataclass
class TimedObserver(LogObserver):
    """`ends` has the time at which each end of a job was read from the log."""

    ends: list[float] = field(default_factory=list)

    def _fact(self, message: LogMessage) -> None:
        job_id = entity_of(message.subject)
        before = len(self.terminal(job_id))
        super()._fact(message)
        if len(self.terminal(job_id)) > before:
            self.ends.append(time.monotonic())


@dataclass(frozen=True, slots=True)
class FaultResult:
    """Seconds. `missing`: what was not as it should be when the time to become whole was over."""

    name: str
    held: float
    slowest_submission: float
    longest_pause: float
    jobs_under_way: float
    whole: float
    missing: tuple[str, ...]
    failovers: tuple[str, ...]


@dataclass
class Injector:
    """One fault after the other."""

    deployment: Deployment
    observer: TimedObserver
    clients: SdkClients

    async def inject(self, fault: Fault) -> FaultResult:
        """Do it, undo it, and wait until the fleet is whole and the jobs that were under way have ended."""
        under_way = self.observer.open_jobs()
        failovers = len(self.deployment.postgres.failovers)
        began = time.monotonic()
        ended = asyncio.create_task(self._until_ended(under_way, began))
        self.deployment.faulty.update(fault.hosts)
        try:
            await self._do(fault)
        finally:
            self.deployment.faulty.difference_update(fault.hosts)
        healed = time.monotonic()
        missing = await self.deployment.until_whole(WHOLE_SECONDS)
        whole = time.monotonic()
        return FaultResult(
            fault.name,
            healed - began,
            max((took for at, took in self.clients.accepted_at if at > began - 1.0), default=0.0),
            _longest_pause([at for at in self.observer.ends if at > began], began, whole),
            await ended,
            whole - healed,
            tuple(missing),
            tuple(self.deployment.postgres.failovers[failovers:]),
        )

    async def _until_ended(self, jobs: set[str], began: float) -> float:
        await self.observer.until(lambda: all(self.observer.terminal(job) for job in jobs), JOBS_SECONDS)
        return time.monotonic() - began

    async def _do(self, fault: Fault) -> None:
        do = {
            Kind.NETWORK: self._network,
            Kind.KILL_HOST: self._kill_host,
            Kind.FREEZE_HOST: self._freeze_host,
            Kind.KILL: self._kill,
            Kind.FREEZE: self._freeze,
            Kind.FILL_DISK: self._fill_disk,
            Kind.MOVE_CLOCK: self._move_clock,
            Kind.UPGRADE: self._upgrade,
        }
        await do[fault.kind](fault)

    async def _network(self, fault: Fault) -> None:
        await self.deployment.network.change(fault.rules)
        await asyncio.sleep(fault.seconds)
        await self.deployment.network.change(OPEN)

    async def _kill_host(self, fault: Fault) -> None:
        programs = self.deployment.of_host(fault.target)
        failovers = len(self.deployment.postgres.failovers)
        await asyncio.gather(*(each.hold_down() for each in programs))
        await asyncio.sleep(fault.seconds)
        fenced = len(self.deployment.postgres.failovers) > failovers
        for each in programs:
            if not (fenced and each.kind == "postgres"):  # which the failover manager makes anew
                each.start()

    async def _freeze_host(self, fault: Fault) -> None:
        signal_host(fault.target, signal.SIGSTOP)
        await asyncio.sleep(fault.seconds)
        signal_host(fault.target, signal.SIGCONT)

    async def _kill(self, fault: Fault) -> None:
        await self._program(fault.target).kill()
        await asyncio.sleep(fault.seconds)

    async def _freeze(self, fault: Fault) -> None:
        program = self._program(fault.target)
        program.signal_tree(signal.SIGSTOP)
        await asyncio.sleep(fault.seconds)
        program.signal_tree(signal.SIGCONT)

    async def _fill_disk(self, fault: Fault) -> None:
        program = self._program(fault.target)
        server, _, host = program.name.partition("-")
        async with full_disk(self.deployment.store(server, host)):
            await asyncio.sleep(fault.seconds)
        if server == "nats" and await asyncio.to_thread(problem_of, program.ready_url.removesuffix("/healthz")) != "":
            await program.kill()  # as a supervisor does whose health check fails

    async def _move_clock(self, fault: Fault) -> None:
        clock = clock_file(self.deployment.folder, fault.target)
        for move in (f"+{CLOCK_SECONDS}", f"-{CLOCK_SECONDS}"):
            clock.write_text(f"{move}\n")
            await asyncio.sleep(fault.seconds / 2)
        clock.write_text("+0\n")

    async def _upgrade(self, _fault: Fault) -> None:
        """Each server, the tables, each service in turn: end in order, start, wait until the fleet is whole.

        Services that read events are upgraded before those that may write new ones.
        """
        programs = [each for each in self.deployment.programs.values() if each.ready_url]
        servers = [each for each in programs if each.is_server]
        services = [each for each in programs if not each.is_server]
        await self._restart_each(servers)
        await self.deployment.migrate()
        await self._restart_each(sorted(services, key=lambda each: UPGRADE_ORDER.index(each.kind)))

    async def _restart_each(self, programs: Sequence[Program]) -> None:
        for each in programs:
            await each.stop(UPGRADE_STOP_SECONDS)
            self.deployment.upgrade(each)
            each.start()
            if missing := await self.deployment.until_whole(WHOLE_SECONDS):
                raise RuntimeError(f"after the upgrade of {each.name} there is no {', '.join(missing)}")

    def _program(self, target: str) -> Program:
        pair = self.deployment.postgres
        name = {"postgres-primary": f"postgres-{pair.primary}", "postgres-standby": f"postgres-{pair.standby}"}
        return self.deployment.programs[name.get(target, target)]


def _longest_pause(times: list[float], began: float, until: float) -> float:
    """The longest time without one of these.

    >>> _longest_pause([1.0, 2.0, 7.0], 0.0, 8.0)
    5.0
    """
    marks = [began, *times, until]
    return max(later - earlier for earlier, later in pairwise(marks))
