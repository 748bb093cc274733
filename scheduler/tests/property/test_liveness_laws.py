"""When an attempt is failed: not too early, and in the end always."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from dreamforge.contracts.events import Decision, FailureReason, JobAssigned, JobRequested, JobStarted
from dreamforge.contracts.fleet import Device, Heartbeat
from dreamforge.contracts.jobs.retry_policy import RetryPolicy
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.scheduler.liveness.expired_attempts import Patience, expired_attempts
from dreamforge.scheduler.liveness.liveness import SILENCE, Liveness
from dreamforge.scheduler.planning.open_job import Stage
from dreamforge.scheduler.planning.snapshot import Snapshot

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PATIENCE = Patience(RetryPolicy(), 0.3, 2.0, 3.0, 60.0)
LONGEST = timedelta(seconds=60)
DECISION = Decision(waited_seconds=0, effective_priority=0, queue_length=0, required_bytes=0, candidates=())
REQUEST = RenderRequest(
    model_id="m", preset="p", prompt="x", width_px=64, height_px=64, steps=1, guidance_scale=0, seed=0
)


def at(seconds):
    return NOON + timedelta(seconds=seconds)


def snapshot_of(rows):
    """Rows: runner, instance, stage, seconds at which it was assigned (and started)."""
    snapshot = Snapshot()
    for number, (runner, instance, stage, second) in enumerate(rows):
        job_id = f"job-{number}"
        snapshot.observe(job_id, JobRequested(at=NOON, tenant="t", request=REQUEST), number * 3 + 1)
        if stage is Stage.PROMISED:
            snapshot.promise(job_id, runner, instance, 1)
            continue
        assigned = JobAssigned(
            at=at(second),
            attempt=1,
            runner_id=runner,
            instance_id=instance,
            preset="p",
            estimated_vram_bytes=1,
            decision=DECISION,
        )
        snapshot.observe(job_id, assigned, number * 3 + 2)
        if stage is Stage.RUNNING:
            started = JobStarted(at=at(second), attempt=1, runner_id=runner, instance_id=instance)
            snapshot.observe(job_id, started, number * 3 + 3)
    return snapshot


def heartbeat(runner, instance):
    return Heartbeat(
        runner_id=runner,
        instance_id=instance,
        at=NOON,
        renderer="x",
        device=Device(kind="cpu", name="x", total_bytes=0),
        budget_bytes=1,
        free_bytes=1,
        slots=1,
    )


def liveness_of(rows):
    """Rows: runner, instance, second at which its lease ended (None: it is live)."""
    liveness = Liveness(NOON)
    for runner, instance, went in rows:
        liveness.heard(heartbeat(runner, instance), NOON)
        if went is not None:
            liveness.lease_ended(runner, at(went))
    return liveness


RUNNERS = st.sampled_from(["r1", "r2", "r3"])
INSTANCES = st.sampled_from(["old", "new"])
ROWS = st.lists(
    st.tuples(RUNNERS, INSTANCES, st.sampled_from([Stage.ASSIGNED, Stage.RUNNING, Stage.PROMISED]), st.floats(0, 10)),
    max_size=6,
)
ATTENDED = st.lists(
    st.tuples(RUNNERS, INSTANCES, st.none() | st.floats(0, 10)), max_size=3, unique_by=lambda row: row[0]
)
MOMENTS = st.floats(0, 100).map(at)


@settings(max_examples=300)
@given(ROWS, ATTENDED, MOMENTS)
def test_what_runs_on_a_live_runner_is_not_failed(rows, seen_runners, now):
    liveness = liveness_of(seen_runners)
    snapshot = snapshot_of(rows)
    for attempt in expired_attempts(snapshot, liveness, now, PATIENCE).now:
        job = snapshot.jobs[attempt.job_id]
        alive = liveness.present.get(job.runner_id) == job.instance_id
        assert job.stage is not Stage.PROMISED
        assert not (alive and job.stage is Stage.RUNNING)
        if alive:
            assert attempt.command.reason is FailureReason.START_DEADLINE
            assert now >= job.since + timedelta(seconds=60)
        else:
            assert attempt.command.reason is FailureReason.RUNNER_LOST
            assert now >= job.since + timedelta(seconds=2), "heartbeats may lag behind the log"
        assert attempt.command.retryable
        assert attempt.command.attempt == job.attempt


@settings(max_examples=300)
@given(ROWS, ATTENDED)
def test_every_attempt_of_a_lost_runner_fails_in_the_end(rows, seen_runners):
    liveness = liveness_of(seen_runners)
    snapshot = snapshot_of(rows)
    late = at(10) + LONGEST
    told = {attempt.job_id for attempt in expired_attempts(snapshot, liveness, late, PATIENCE).now}
    for job in snapshot.jobs.values():
        alive = liveness.present.get(job.runner_id) == job.instance_id
        if job.stage is Stage.ASSIGNED or (job.stage is Stage.RUNNING and not alive):
            assert job.job_id in told


@settings(max_examples=300)
@given(ROWS, ATTENDED, MOMENTS)
def test_an_attempt_expires_at_the_time_given_and_none_before(rows, seen_runners, now):
    liveness = liveness_of(seen_runners)
    snapshot = snapshot_of(rows)
    found = expired_attempts(snapshot, liveness, now, PATIENCE)
    if found.next_at is None:
        assert len(expired_attempts(snapshot, liveness, now + timedelta(days=1), PATIENCE).now) == len(found.now)
        return
    assert found.next_at > now
    just_before = found.next_at - timedelta(microseconds=1)
    assert len(expired_attempts(snapshot, liveness, max(now, just_before), PATIENCE).now) == len(found.now)
    assert len(expired_attempts(snapshot, liveness, found.next_at, PATIENCE).now) > len(found.now)


def test_a_runner_that_comes_back_within_the_grace_keeps_its_work():
    snapshot = snapshot_of([("r1", "old", Stage.RUNNING, 0)])
    liveness = liveness_of([("r1", "old", 5)])
    assert expired_attempts(snapshot, liveness, at(5.2), PATIENCE).now == ()
    liveness.heard(heartbeat("r1", "old"), at(5.25))
    assert expired_attempts(snapshot, liveness, at(50), PATIENCE) == expired_attempts(
        Snapshot(), liveness, at(50), PATIENCE
    )


def test_after_its_start_a_scheduler_waits_for_heartbeats():
    snapshot = snapshot_of([("r1", "old", Stage.RUNNING, -100)])
    liveness = Liveness(NOON)
    assert expired_attempts(snapshot, liveness, at(2.9), PATIENCE).now == ()
    assert len(expired_attempts(snapshot, liveness, at(3), PATIENCE).now) == 1


def test_silence_is_noticed_even_if_the_end_of_the_lease_was_not_seen():
    liveness = liveness_of([("r1", "old", None), ("r2", "old", None)])
    liveness.heard(heartbeat("r2", "old"), at(2))
    assert liveness.next_silence == NOON + SILENCE
    assert liveness.silent(NOON + SILENCE) == ["r1"]
    liveness.postpone("r1", NOON + SILENCE)
    assert liveness.silent(NOON + SILENCE) == []


def test_a_lost_runner_is_recorded_once_and_not_at_all_if_it_returned():
    liveness = liveness_of([("r1", "old", 1), ("r2", "old", 1), ("r3", "old", 1)])
    liveness.heard(heartbeat("r2", "old"), at(2))
    liveness.recorded("r3")
    assert liveness.unrecorded() == [("r1", at(1))]
