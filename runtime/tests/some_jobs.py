"""What the tests of the event store share: commands that lead a job through its life."""

from dreamforge.contracts.events import ArtifactStored, Decision
from dreamforge.contracts.jobs.decisions import AssignJob, FinishAttempt, RequestJob, StartAttempt
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.event_store import EventStore

REQUEST = RenderRequest(
    model_id="m", preset="p", prompt="a cat", width_px=64, height_px=64, steps=4, guidance_scale=1, seed=1, images=2
)
DECISION = Decision(waited_seconds=0, effective_priority=1, queue_length=0, required_bytes=0, candidates=())


def request(job_id: str) -> RequestJob:
    return RequestJob(job_id=job_id, now=clock.now(), tenant="t", priority=5, request=REQUEST)


def assign(runner_id: str = "r1") -> AssignJob:
    return AssignJob(clock.now(), 1, runner_id, "i1", 0, DECISION)


def finish(count: int = 2) -> FinishAttempt:
    now = clock.now()
    artifacts = tuple(
        ArtifactStored(
            at=now,
            attempt=1,
            index=index,
            sha256=f"{index:064x}",
            size_bytes=1,
            content_type="image/png",
            width_px=64,
            height_px=64,
            seed=index,
            recipe={},
        )
        for index in range(count)
    )
    return FinishAttempt(now, 1, artifacts, 1.0)


async def started(store: EventStore) -> str:
    job_id = ids.new_id()
    for command in (request(job_id), assign(), StartAttempt(clock.now(), 1, "r1", "i1")):
        await store.execute(job_id, command)
    return job_id
