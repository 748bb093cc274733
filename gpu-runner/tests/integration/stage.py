"""A stage for a runner: a real log and a real object store; the test speaks as the scheduler does."""

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from runner_testkit.png import read_recipe

from dreamforge.contracts.events import Decision, RenderGroup, StepProgressed
from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.jobs import decisions
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.jobs.state import JobState
from dreamforge.contracts.log.envelope import unseal
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gpu_runner.main import SERVICE
from dreamforge.gpu_runner.protocol.recipe import Recipe
from dreamforge.gpu_runner.settings import RunnerSettings
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import EventStore
from dreamforge.runtime.log.job_steps import steps_after
from dreamforge.runtime.log.views import FleetView
from dreamforge.runtime.service import shell
from dreamforge.runtime.storage.objects import ObjectStore, object_key
from dreamforge.runtime.testing import eventually

DECISION = Decision(waited_seconds=0, effective_priority=5, queue_length=0, required_bytes=0, candidates=())
#: A diffusers child imports torch before it is ready.
READY_SECONDS = 90.0


@dataclass
class Stage:
    """The rest of the system, as far as a runner can tell."""

    bus: Bus
    objects: ObjectStore
    fleet: FleetView
    environment: dict[str, str]
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    exits: AsyncExitStack = field(default_factory=AsyncExitStack)
    store: EventStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = EventStore(self.bus, "/dreamforge/test")

    async def start_process(self, **settings: object) -> asyncio.subprocess.Process:
        """A runner process, to be killed or told to stop by a signal; returns when it takes assignments."""
        environment = self._environment(settings)
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "dreamforge.gpu_runner", env=environment)
        self.processes.append(process)
        await self._accepted(lambda: process.returncode is not None)
        return process

    async def start_runner(self, **settings: object) -> None:
        """A runner on this loop, with its child process; returns when it takes assignments.

        Its imports are there already: a process of its own needs more seconds for them than most tests last.
        """
        environment = self._environment({"drain_seconds": 0.1} | settings)
        named = {name.removeprefix("FORGE_").lower(): value for name, value in environment.items() if "FORGE_" in name}
        stop = asyncio.Event()
        serving = asyncio.create_task(shell.serve(SERVICE, RunnerSettings(_env_file=None, **named), stop))

        async def end() -> None:
            stop.set()
            await asyncio.wait_for(serving, 30)

        self.exits.push_async_callback(end)
        await self._accepted(serving.done)

    def _environment(self, settings: dict[str, object]) -> dict[str, str]:
        return self.environment | {f"FORGE_RUNNER_{name.upper()}": str(value) for name, value in settings.items()}

    async def _accepted(self, has_ended: Callable[[], bool]) -> None:
        """Wait until the heartbeat of a new instance says that it takes assignments."""
        beat = self.fleet.runners.get("r1")
        before = beat.instance_id if beat is not None else ""

        def accepts() -> bool:
            if has_ended():
                raise ChildProcessError("the runner has ended")
            beat = self.beat()
            return beat is not None and beat.instance_id != before and not beat.draining

        await eventually(accepts, READY_SECONDS)

    def beat(self) -> Heartbeat | None:
        return self.fleet.runners.get("r1")

    async def request(self, **changes: object) -> str:
        """A job in the log."""
        values: dict[str, object] = {
            "model_id": "synthetic",
            "preset": "standard",
            "prompt": "a red fox",
            "width_px": 64,
            "height_px": 64,
            "steps": 4,
            "guidance_scale": 1.0,
            "seed": 1,
        }
        job_id = ids.new_id()
        request = RenderRequest.model_validate(values | changes)
        await self.store.execute(job_id, decisions.RequestJob(job_id, clock.now(), "default", 5, request))
        return job_id

    async def assign(self, job_id: str, *, instance_id: str | None = None, group: RenderGroup | None = None) -> int:
        """Give its next attempt to the runner, at the time when a retry is due; the attempt's number."""
        beat = self.beat()
        assert beat is not None
        state, now = await self.state(job_id), clock.now()
        attempt, due = state.attempt + 1, max(now, state.retry_at or now)
        instance_id = instance_id or beat.instance_id
        command = decisions.AssignJob(due, attempt, "r1", instance_id, 0, DECISION, group=group)
        await self.store.execute(job_id, command)
        return attempt

    async def assign_together(self, *job_ids: str) -> None:
        """Assign the jobs of one group."""
        group = RenderGroup(group_id=job_ids[0], jobs=len(job_ids))
        await asyncio.gather(*(self.assign(job_id, group=group) for job_id in job_ids))

    async def submit(self, **changes: object) -> str:
        job_id = await self.request(**changes)
        await self.assign(job_id)
        return job_id

    async def state(self, job_id: str) -> JobState:
        return (await self.store.load(job_id)).state

    async def reaches(self, job_id: str, *statuses: Status, seconds: float = 30.0) -> JobState:
        return await eventually(lambda: self.state(job_id), seconds, until=lambda state: state.status in statuses)

    async def recipe_of(self, job_id: str) -> Recipe:
        """The recipe in the one image of a job."""
        (artifact,) = (await self.state(job_id)).artifacts
        png = await self.objects.get(object_key(artifact.sha256))
        assert hashlib.sha256(png).hexdigest() == artifact.sha256
        return read_recipe(png)

    async def events(self, job_id: str) -> list[object]:
        return [recorded.event for recorded in (await self.store.load(job_id)).history]

    async def steps(self, job_id: str) -> list[StepProgressed]:
        messages = await steps_after(self.bus, job_id, 0)
        events = [unseal(m.subject, m.headers, m.data, sequence=m.sequence).event for m in messages]
        return [event for event in events if isinstance(event, StepProgressed)]

    async def renders(self, *job_ids: str) -> None:
        """Wait until the child has shown a step of each."""
        for job_id in job_ids:
            await eventually(lambda job_id=job_id: self.steps(job_id), until=bool)

    async def unacknowledged(self) -> int:
        info = await self.bus.request("$JS.API.CONSUMER.INFO.JOBS.runner-r1", None)
        return int(info["num_ack_pending"]) + int(info["num_pending"])


def child_of(pid: int) -> int:
    """The one worker that a runner's process has started."""
    (child,) = workers_of(pid)
    return child


def workers_of(pid: int) -> set[int]:
    """Workers that a process has started: a runner's, or those of several runners on its loop (needs pgrep)."""
    command = ["pgrep", "-P", str(pid), "-f", "dreamforge.gpu_runner.worker"]
    return {int(found) for found in subprocess.run(command, capture_output=True, text=True).stdout.split()}
