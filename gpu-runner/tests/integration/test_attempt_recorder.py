"""What the child warns of and finishes becomes facts of its attempt, on a real log, and never costs the attempt."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from dreamforge.contracts.events import ArtifactStored, Decision, FailureReason, JobSucceeded, JobWarned, WarningCode
from dreamforge.contracts.jobs import decisions
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.jobs.retry_policy import RetryPolicy
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gpu_runner.protocol.messages import Warned
from dreamforge.gpu_runner.supervisor.attempt_recorder import MAX_WORDS, AttemptRecorder
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.event_store import EventStore, JobOutcome, LoadedJob
from dreamforge.runtime.log.streams import open_log
from dreamforge.runtime.service.settings import CommonSettings
from dreamforge.runtime.testing.streams import declare_streams

REQUEST = RenderRequest(
    model_id="m",
    preset="standard",
    prompt="a fox",
    width_px=64,
    height_px=64,
    steps=4,
    guidance_scale=1.0,
    seed=1,
    images=2,
)
DECISION = Decision(waited_seconds=0, effective_priority=5, queue_length=0, required_bytes=0, candidates=())


class Job:
    """One running job in a real log, and how its runner appends to it."""

    def __init__(self, store: EventStore) -> None:
        self.store, self.job_id = store, ids.new_id()

    async def execute(self, command: decisions.Command, known: LoadedJob | None = None) -> JobOutcome:
        return await self.store.execute(self.job_id, command, known=known)

    async def start(self) -> LoadedJob:
        now = clock.now()
        await self.execute(decisions.RequestJob(self.job_id, now, "default", 5, REQUEST))
        await self.execute(decisions.AssignJob(now, 1, "r1", "i1", 0, DECISION))
        outcome = await self.execute(decisions.StartAttempt(now, 1, "r1", "i1"))
        return LoadedJob(outcome.state, outcome.version)

    async def history(self) -> list[object]:
        return [recorded.event for recorded in (await self.store.load(self.job_id)).history]


@pytest.fixture
async def job(nats_url: str) -> AsyncIterator[Job]:
    settings = CommonSettings.model_validate({"nats_url": nats_url, "nats_allow_unsynced": True})
    await declare_streams(nats_url)
    bus = await open_log(settings, "test")
    store = EventStore(bus, "/dreamforge/test")
    yield Job(store)
    await store.close()
    await bus.close()


def warned(code: WarningCode, image_index: int | None = None, words: tuple[str, ...] = ()) -> Warned:
    return Warned(task_id="t", code=code, message="look", image_index=image_index, words=words)


def artifact(index: int) -> ArtifactStored:
    return ArtifactStored(
        at=clock.now(),
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


async def test_an_image_is_recorded_at_once_and_the_last_one_with_the_finish(job: Job) -> None:
    recorder = AttemptRecorder(1, job.execute, await job.start(), images=2)
    await recorder.warn(warned(WarningCode.IMAGE_BLACK, image_index=1))
    recorder.store(artifact(1))
    known = await recorder.recorded()
    assert [type(event) for event in (await job.history())[3:]] == [JobWarned, ArtifactStored]
    recorder.store(artifact(0))
    assert await recorder.recorded() is known
    assert [each.index for each in recorder.waiting] == [0]
    await job.execute(decisions.FinishAttempt(clock.now(), 1, recorder.waiting, 0.1), known)
    succeeded = (await job.history())[-1]
    assert isinstance(succeeded, JobSucceeded)
    assert succeeded.artifacts == (artifact(0).sha256, artifact(1).sha256)


async def test_an_attempt_that_ends_early_records_the_last_image_too(job: Job) -> None:
    recorder = AttemptRecorder(1, job.execute, await job.start(), images=1)
    recorder.store(artifact(0))
    await recorder.record_all()
    await recorder.record_all()
    assert [type(event) for event in (await job.history())[3:]] == [ArtifactStored]


async def test_a_caller_that_stops_waiting_stops_no_append(job: Job) -> None:
    recorder = AttemptRecorder(1, job.execute, await job.start(), images=2)
    recorder.store(artifact(0))
    waiting = asyncio.create_task(recorder.recorded())
    await asyncio.sleep(0)  # it waits now, and the append has begun
    waiting.cancel()
    known = await recorder.recorded()
    assert known is not None
    assert known.state.missing_images == (1,)


async def test_the_finish_is_decided_on_the_version_after_the_warnings(job: Job) -> None:
    recorder = AttemptRecorder(1, job.execute, await job.start(), images=2)
    await recorder.warn(warned(WarningCode.UNKNOWN_WORDS, words=("giraffe",)))
    await recorder.warn(warned(WarningCode.IMAGE_BLACK, image_index=0))
    await recorder.warn(warned(WarningCode.IMAGE_BLACK, image_index=1))
    known = await recorder.recorded()
    assert known is not None
    assert known.version == (await job.store.load(job.job_id)).version
    await job.execute(decisions.FinishAttempt(clock.now(), 1, (artifact(0), artifact(1)), 0.1), known)
    said = [event for event in await job.history() if isinstance(event, JobWarned)]
    assert [(event.code, event.image_index) for event in said] == [
        (WarningCode.UNKNOWN_WORDS, None),
        (WarningCode.IMAGE_BLACK, 0),
        (WarningCode.IMAGE_BLACK, 1),
    ]
    assert said[0].words == ("giraffe",)
    assert isinstance((await job.history())[-1], JobSucceeded)


async def test_a_warning_said_twice_is_one_fact(job: Job) -> None:
    recorder = AttemptRecorder(1, job.execute, await job.start(), images=2)
    for _ in range(3):
        await recorder.warn(warned(WarningCode.PROMPT_CUT))
        await recorder.recorded()
    assert sum(isinstance(event, JobWarned) for event in await job.history()) == 1


async def test_a_race_on_the_version_is_decided_again(job: Job) -> None:
    recorder = AttemptRecorder(1, job.execute, await job.start(), images=2)
    await job.execute(decisions.RequestCancel(clock.now()))
    await recorder.warn(warned(WarningCode.PROMPT_CUT))
    known = await recorder.recorded()
    assert known is not None
    assert known.state.cancel_requested
    assert len(known.state.warnings) == 1


async def test_a_warning_of_an_attempt_that_is_over_is_dropped_without_an_error(job: Job) -> None:
    recorder = AttemptRecorder(1, job.execute, await job.start(), images=2)
    await job.execute(decisions.FailAttempt(clock.now(), 1, FailureReason.RUNNER_LOST, True, "silent", RetryPolicy()))
    await recorder.warn(warned(WarningCode.PROMPT_CUT))
    assert await recorder.recorded() is None
    assert (await job.store.load(job.job_id)).state.status is Status.QUEUED
    assert not any(isinstance(event, JobWarned) for event in await job.history())


async def test_the_words_of_a_very_long_prompt_fit_into_an_event(job: Job) -> None:
    recorder = AttemptRecorder(1, job.execute, await job.start(), images=2)
    await recorder.warn(warned(WarningCode.PROMPT_CUT, words=("w" * 1000,) * 10_000))
    known = await recorder.recorded()
    assert known is not None
    assert len(known.state.warnings[0].words) == MAX_WORDS
