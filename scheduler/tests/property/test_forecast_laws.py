"""A forecast is what the plan does as time passes, and leaves no trace; calibration is what became of promises."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamforge.contracts.events import JobStarted, JobSucceeded
from dreamforge.contracts.jobs.attempts import decide_course
from dreamforge.scheduler.planning.calibration import ATTEMPTS_MIN, USUAL_RATIOS, Calibration, KeptPromise
from dreamforge.scheduler.planning.fleet_index import FleetIndex
from dreamforge.scheduler.planning.forecast import JOBS_MAX, QueueForecast
from dreamforge.scheduler.planning.open_job import opened
from dreamforge.scheduler.planning.planning_input import loads_of

from .test_time_laws import (
    EVENTS,
    FAST,
    FLEETS,
    MODELS,
    NOON,
    SLOW,
    applied,
    busy,
    fleet_of,
    folded,
    planned,
    requested,
    runner,
)

JOBS = st.lists(
    st.builds(
        requested,
        st.just("a"),
        steps=st.sampled_from([1, 5, 40]),
        tenant=st.sampled_from(["t1", "t2"]),
        priority=st.sampled_from([2, 5]),
        age=st.sampled_from([0.0, 10.0, 90.0]),
    ),
    min_size=1,
    max_size=12,
)


def forecast(snapshot, *beats, until=None, calibration=None, now=NOON):
    loads = loads_of(beats, snapshot)
    return QueueForecast.of(FleetIndex.of(loads, MODELS), snapshot, now, calibration or Calibration(), until)


def simulated(snapshot, beats):
    """When each job ends if every one takes exactly what was promised: the plan, event by event."""
    now, ends, sequence = NOON, {}, 2000
    while True:
        found = planned(snapshot, *beats, now=now)
        applied(snapshot, found, now)
        for each in found:
            (assigned,) = decide_course(each.job, each.command(now))
            for event in (assigned, JobStarted(at=now, attempt=1, runner_id=each.runner_id, instance_id="i")):
                sequence += 1
                snapshot.observe(each.job.job_id, event, sequence)
            ends[each.job.job_id] = each.ends_at(now)
        running = [end for job_id, end in ends.items() if job_id in snapshot.jobs]
        if not running:
            return {job_id: (end - NOON).total_seconds() for job_id, end in ends.items()}
        now = min(running)
        for job_id in [each for each, end in ends.items() if end == now and each in snapshot.jobs]:
            sequence += 1
            snapshot.observe(job_id, JobSucceeded(at=now, attempt=1, artifacts=(), render_seconds=0), sequence)


@settings(max_examples=60, deadline=None)
@given(JOBS)
def test_on_one_runner_of_one_tenant_the_forecast_comes_true(events):
    """Where ageing and turns change nothing while the queue is worked off, it is exact."""
    events = [event.model_copy(update={"tenant": "t", "at": NOON, "priority": 5}) for event in events]
    snapshot = folded(*events)
    beats = (runner("fast", FAST),)
    expected = {job_id: end.end_seconds for job_id, (end, _) in forecast(snapshot, *beats).placed.items()}
    assert simulated(snapshot, beats) == pytest.approx(expected, abs=0.01)


@settings(max_examples=60, deadline=None)
@given(JOBS)
def test_on_fast_and_slow_runners_the_last_job_ends_as_forecast_within_one_job(events):
    snapshot = folded(*events)
    beats = runner("fast", FAST), runner("fast-2", FAST), runner("slow", SLOW)
    expected = max(end.end_seconds for end, _ in forecast(snapshot, *beats).placed.values())
    longest = SLOW * max(event.request.steps for event in events)
    assert max(simulated(snapshot, beats).values()) == pytest.approx(expected, abs=longest)


@settings(max_examples=100)
@given(EVENTS, FLEETS, st.sampled_from(["t1", "t2", "t3"]))
def test_a_question_about_a_request_that_was_not_made_changes_nothing(events, rows, tenant):
    snapshot = folded(*events)
    beats = fleet_of(rows, snapshot)
    before = snapshot.queue.turns(), sorted(snapshot.queue), planned(snapshot, *beats)
    with snapshot.with_jobs([opened(each, requested(tenant=tenant), 0) for each in ("preview", "preview-2")]):
        found = forecast(snapshot, *beats, until={"preview", "preview-2"})
        found.answer("preview")
        found.answer_of_batch(("preview", "preview-2"))
    assert (snapshot.queue.turns(), sorted(snapshot.queue), planned(snapshot, *beats)) == before


@settings(max_examples=100)
@given(EVENTS, FLEETS)
def test_every_job_has_a_forecast_or_a_reason(events, rows):
    snapshot = folded(*events)
    found = forecast(snapshot, *fleet_of(rows, snapshot))
    for job_id in snapshot.jobs:
        answer = found.answer(job_id)
        assert (answer.forecast is None) != (answer.reason is None)
        if answer.forecast is not None:
            ends, starts = answer.forecast.ends_in_seconds, answer.forecast.starts_in_seconds
            assert 0 <= ends.p50 <= ends.p90
            assert starts is None or starts.p50 <= ends.p50


def test_a_long_queue_is_looked_at_up_to_a_bound():
    snapshot = folded(*(requested(age=n) for n in range(JOBS_MAX + 2)))
    found = forecast(snapshot, runner("fast", FAST))
    assert len(found.placed) == JOBS_MAX
    assert found.answer("job-01").reason == f"more than {JOBS_MAX} jobs are before it"


def test_a_job_that_waits_for_a_better_runner_says_which_could_have_started():
    snapshot = folded(requested(steps=10))
    busy(snapshot, "fast", 5.0)
    answer = forecast(snapshot, runner("fast", FAST), runner("slow", SLOW)).answer("job-01").forecast
    assert (answer.runner_id, answer.ends_in_seconds.p50) == ("fast", 15.0)
    assert (answer.idle_runner_id, answer.idle_ends_in_seconds) == ("slow", 40.0)


def test_the_range_is_the_runners_own_error():
    calibration = Calibration()
    for number in range(ATTEMPTS_MIN):
        assert calibration.ratios("fast") == USUAL_RATIOS
        calibration.ended(KeptPromise("fast", 10.0, 20.0 if number < ATTEMPTS_MIN - 2 else 40.0))
    assert calibration.ratios("fast") == (2.0, 4.0)
    assert calibration.error_seconds == (10.0, 30.0)
    snapshot = folded(requested(steps=10))
    ends = forecast(snapshot, runner("fast", FAST), calibration=calibration).answer("job-01").forecast.ends_in_seconds
    assert (ends.p50, ends.p90) == (20.0, 40.0)


def test_a_success_is_compared_with_its_promise_once():
    snapshot = folded(requested(steps=10))
    (found,) = planned(snapshot, runner("fast", FAST))
    (assigned,) = decide_course(found.job, found.command(NOON))
    later = NOON + timedelta(seconds=12)
    started = JobStarted(at=NOON, attempt=1, runner_id="fast", instance_id="i")
    done = JobSucceeded(at=later, attempt=1, artifacts=(), render_seconds=0)
    for sequence, event in enumerate((assigned, started, done), 10):
        snapshot.observe("job-01", event, sequence)
    assert snapshot.kept_promises() == [KeptPromise("fast", 10.0, 12.0)]
    assert snapshot.kept_promises() == []


def test_a_batch_starts_with_its_first_job_and_ends_with_its_last_wherever_they_run():
    snapshot = folded(requested(steps=10))
    jobs = [opened(f"preview-{number}", requested(steps=10), number) for number in range(4)]
    with snapshot.with_jobs(jobs):
        ids = tuple(job.job_id for job in jobs)
        found = forecast(snapshot, runner("fast", FAST), runner("slow", SLOW), until=set(ids))
        answer, single = found.answer_of_batch(ids), [found.answer(each).forecast for each in ids]
    assert answer.reason is None
    assert answer.batch.jobs == sum(each.jobs for each in answer.batch.runners) == 4
    assert {each.runner_id for each in answer.batch.runners} == {"fast", "slow"}
    assert answer.batch.starts_in_seconds.p50 == min(each.starts_in_seconds.p50 for each in single)
    assert answer.batch.ends_in_seconds.p50 == max(each.ends_in_seconds.p50 for each in single)
    assert answer.batch.ahead == 1


def test_what_is_not_known_of_a_batch_is_said_and_the_rest_is_forecast():
    snapshot = folded()
    jobs = [opened("known", requested("a"), 1), opened("unknown", requested("c"), 2)]
    with snapshot.with_jobs(jobs):
        found = forecast(snapshot, runner("fast", FAST), until={"known", "unknown"})
        answer, none = found.answer_of_batch(("known", "unknown")), found.answer_of_batch(("unknown",))
    assert answer.batch.jobs == 1
    assert answer.reason.startswith("of 1 of 2 jobs: no runner")
    assert (none.batch, none.reason) == (None, "no runner that is alive can take it")
