"""Facts appended to a real log become rows in a real database, and a reader hears of it."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import psycopg

from dreamforge.contracts.events import Event, FailureReason, StepProgressed
from dreamforge.contracts.fleet import Device
from dreamforge.contracts.installation_events import ModelRegistered, RunnerLost, RunnerRegistered
from dreamforge.contracts.jobs.decisions import ConfirmCancel, FailAttempt, RequestCancel, StoreImages
from dreamforge.contracts.jobs.retry_policy import RetryPolicy
from dreamforge.contracts.log.envelope import seal
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.tables import CHECKPOINT_CHANNEL
from dreamforge.projector.settings import ProjectorSettings
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.event_store import EventStore

Rows = Callable[..., Awaitable[list[dict[str, Any]]]]
Folded = Callable[..., Awaitable[None]]


async def publish(bus: Bus, event: Event, entity_id: str) -> int:
    envelope = seal(event, entity_id=entity_id, event_id=ids.new_id(), source="/test")
    ack = await bus.js.publish(envelope.subject, envelope.data, headers=envelope.headers)
    return ack.seq


async def test_a_finished_job_is_in_every_table(
    settings: ProjectorSettings, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    await story.request("J")
    async with projecting(settings):
        await story.start("J")
        version = await story.finish("J")
        await folded(version)

    (job,) = await rows("SELECT * FROM jobs")
    assert (job["job_id"], job["status"], job["version"], job["attempt"]) == ("J", "succeeded", version, 1)
    assert job["request"]["prompt"] == "a cat"
    assert job["requested_at"] <= job["assigned_at"] <= job["started_at"] <= job["finished_at"]
    (attempt,) = await rows("SELECT * FROM attempts")
    assert (attempt["status"], attempt["runner_id"], attempt["estimated_vram_bytes"]) == ("succeeded", "r1", 7)
    artifacts = await rows("SELECT artifact_id, visible, recipe FROM artifacts ORDER BY 1")
    assert [(a["artifact_id"], a["visible"], a["recipe"]["seed"]) for a in artifacts] == [
        ("J-1-0", True, 0),
        ("J-1-1", True, 1),
    ]
    events = await rows("SELECT type, sequence FROM events ORDER BY sequence")
    assert [event["sequence"] for event in events] == list(range(1, version + 1))
    assert events[-1]["type"] == "dreamforge.job.succeeded.v1"


async def test_a_second_attempt_has_a_row_of_its_own(
    settings: ProjectorSettings, store: EventStore, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    policy = RetryPolicy(base_seconds=0)
    async with projecting(settings):
        await story.request("J")
        await story.start("J")
        failed = FailAttempt(clock.now(), 1, FailureReason.STALLED, True, "no step for 5 s", policy)
        await store.execute("J", failed)
        await story.start("J", attempt=2)
        await folded((await store.execute("J", RequestCancel(clock.now() + timedelta(seconds=1)))).version)

    attempts = await rows("SELECT attempt, status, reason, message, retryable FROM attempts ORDER BY 1")
    assert [tuple(attempt.values()) for attempt in attempts] == [
        (1, "failed", "stalled", "no step for 5 s", True),
        (2, "running", None, None, None),
    ]
    (job,) = await rows("SELECT status, cancel_requested, failure_reason, finished_at FROM jobs")
    assert tuple(job.values()) == ("running", True, "stalled", None)


async def test_an_image_is_visible_before_the_job_ends_and_after_a_cancel(
    settings: ProjectorSettings, store: EventStore, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    visible = 'SELECT "index" FROM artifacts WHERE visible'
    async with projecting(settings):
        await story.request("J")
        await story.start("J")
        stored = await store.execute("J", StoreImages(clock.now(), 1, (story.artifact(1, 1),)))
        await folded(stored.version)
        assert await rows(visible) == [{"index": 1}]
        await store.execute("J", RequestCancel(clock.now()))
        await folded((await store.execute("J", ConfirmCancel(clock.now(), 1))).version)
    assert await rows(visible) == [{"index": 1}]
    assert await rows("SELECT status FROM jobs") == [{"status": "cancelled"}]


async def test_of_an_index_that_an_older_version_stored_twice_the_later_one_is_visible(
    settings: ProjectorSettings, store: EventStore, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    async with projecting(settings):
        await story.request("J", images=1)
        version = await story.start("J")
        await folded(await store.append("J", [story.artifact(1, 0)], expected=version))
        failed = FailAttempt(clock.now(), 1, FailureReason.STALLED, True, "no step", RetryPolicy(base_seconds=0))
        await store.execute("J", failed)
        version = await story.start("J", attempt=2)
        await folded(await store.append("J", [story.artifact(2, 0)], expected=version))
    found = await rows("SELECT artifact_id, visible FROM artifacts ORDER BY 1")
    assert [(each["artifact_id"], each["visible"]) for each in found] == [("J-1-0", False), ("J-2-0", True)]


async def test_the_newest_step_is_kept_until_the_job_is_finished(
    settings: ProjectorSettings, bus: Bus, story: Any, rows: Rows, folded: Folded, projecting: Any
) -> None:
    def step(number: int) -> StepProgressed:
        return StepProgressed(
            at=clock.now(), attempt=1, image_index=0, images=1, step=number, steps=20, elapsed_seconds=1, eta_seconds=2
        )

    async with projecting(settings):
        await story.request("J")
        await folded(await story.start("J"))
        for number in range(1, 11):
            sequence = await publish(bus, step(number), "J")
        await folded(sequence, "STEPS")
        (row,) = await rows("SELECT step, sequence FROM steps")
        assert tuple(row.values()) == (10, sequence)

        await folded(await story.finish("J"))
        assert await rows("SELECT * FROM steps") == []
        await folded(await publish(bus, step(11), "J"), "STEPS")
        assert await rows("SELECT * FROM steps") == []


async def test_runners_and_models_are_rows(
    settings: ProjectorSettings, bus: Bus, rows: Rows, folded: Folded, projecting: Any
) -> None:
    device = Device(kind="cpu", name="cpu", total_bytes=1)
    registered = RunnerRegistered(
        at=clock.now(), instance_id="i1", renderer="synthetic", device=device, slots=1, model_ids=("m",)
    )
    vram = VramProfile(resident_bytes=1, denoise_bytes_per_latent=1, decode_bytes_per_px=1)
    preset = Preset(name="p", width_px=64, height_px=64, steps=4, guidance_scale=1)
    descriptor = ModelDescriptor(model_id="m", family="f", digest="a" * 64, vram=vram, presets=(preset,))
    async with projecting(settings):
        await publish(bus, registered, "r1")
        await publish(bus, RunnerLost(at=clock.now(), instance_id="i0", silent_seconds=5), "r1")
        await publish(bus, registered, "r2")
        fleet = await publish(bus, RunnerLost(at=clock.now(), instance_id="i1", silent_seconds=5), "r2")
        await publish(bus, ModelRegistered(at=clock.now(), descriptor=descriptor), "m")
        again = descriptor.model_copy(update={"digest": "b" * 64})
        models = await publish(bus, ModelRegistered(at=clock.now(), descriptor=again), "m")
        await folded(fleet, "FLEET")
        await folded(models, "MODELS")

    runners = await rows("SELECT runner_id, status, model_ids FROM runners ORDER BY 1")
    assert [tuple(runner.values()) for runner in runners] == [("r1", "online", ["m"]), ("r2", "lost", ["m"])]
    found = await rows("SELECT model_id, digest, first_sequence, sequence FROM models")
    assert [tuple(model.values()) for model in found] == [("m", "b" * 64, 1, 2)]


async def test_listeners_are_notified_of_each_checkpoint(
    settings: ProjectorSettings, story: Any, database_url: str, projecting: Any
) -> None:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as listener:
        await listener.execute(f"LISTEN {CHECKPOINT_CHANNEL}")
        async with projecting(settings):
            version = await story.request("J")
            async for notice in listener.notifies(timeout=10):
                if notice.payload == f"JOBS {version}":
                    break
            else:
                raise AssertionError("no notice came")
        found = await (await listener.execute("SELECT version FROM jobs")).fetchone()
        assert found == (version,)
