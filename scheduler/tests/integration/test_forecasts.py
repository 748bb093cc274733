"""The scheduler that leads says when jobs will run, of those that wait and of a request that was not made."""

from dreamforge.contracts.events import JobRequested
from dreamforge.contracts.forecasts import Forecast, ForecastAnswer, ForecastQuestion, RequestedBatch
from dreamforge.contracts.log.subjects import FORECASTS
from dreamforge.contracts.measured_times import MeasuredTimes
from dreamforge.contracts.observed_memory import ObservedMemory
from dreamforge.runtime.testing import eventually
from dreamforge.scheduler import metrics
from dreamforge.scheduler.forecasts import BUSY

from .conftest import now, request

OFFLOADED = ObservedMemory(rungs={"tiny 64x64": ("offload_model",)})
TEN_SECONDS_A_STEP = MeasuredTimes(steps={"tiny 64x64": {1: 10.0}}, loads={"tiny": 5.0})


async def leading(forge) -> None:
    """A scheduler that answers."""
    scheduler = await forge.scheduler()
    await eventually(scheduler.decides)


async def asked(forge, question: ForecastQuestion) -> ForecastAnswer:
    answer = await forge.bus.ask(FORECASTS, question.model_dump_json().encode())
    return ForecastAnswer.model_validate_json(answer.data)


async def test_the_course_of_a_queue_and_of_a_request_behind_it(forge):
    await leading(forge)
    await forge.runner("gpu-1", behaviour="hold", times=TEN_SECONDS_A_STEP, memory=OFFLOADED)
    first, second = [await forge.submit() for _ in range(2)]
    await eventually(lambda: forge.status(first), until=lambda status: status == "running")

    async def both() -> list[Forecast | None]:
        return [(await asked(forge, ForecastQuestion(job_id=job_id))).forecast for job_id in (first, second)]

    running, queued = await eventually(both, until=lambda found: None not in found)
    assert running.starts_in_seconds is None
    assert 20 < running.ends_in_seconds.p50 <= 25, "5 s to load, 2 steps"
    assert (queued.runner_id, queued.ahead, queued.load_seconds) == ("gpu-1", 0, 0)
    assert 40 < queued.ends_in_seconds.p50 <= 45
    assert queued.rungs == ("offload_model",), "what its runner has learnt that a render of this size begins with"
    assert queued.ends_in_seconds.p90 > queued.ends_in_seconds.p50

    question = ForecastQuestion(requested=JobRequested(at=now(), tenant="new", request=request(steps=4)))
    third = (await asked(forge, question)).forecast
    assert 80 < third.ends_in_seconds.p50 <= 85
    forge.schedulers[0][0]._forecasts._preview_from = 0.0
    batch = RequestedBatch(requests=(question.requested,), jobs=(0, 0))
    fourth = (await asked(forge, ForecastQuestion(batch=batch))).batch
    assert (fourth.jobs, fourth.ahead, [each.runner_id for each in fourth.runners]) == (2, 1, ["gpu-1"])
    assert 120 < fourth.ends_in_seconds.p50 <= 125, "two of 40 s"
    scheduler = forge.schedulers[0][0]
    assert set(scheduler.snapshot.queue) == {second}, "nothing is left of them"


async def test_what_is_not_known_is_said(forge):
    await leading(forge)
    gone = await asked(forge, ForecastQuestion(job_id="0" * 8))
    assert (gone.forecast, gone.reason) == (None, "the job is not open")
    question = ForecastQuestion(requested=JobRequested(at=now(), tenant="t", request=request()))
    assert (await asked(forge, question)).reason == "no runner is alive"
    await forge.runner("gpu-1")
    await eventually(
        lambda: asked(forge, question), until=lambda answer: answer.reason == "no runner has measured its model yet"
    )


async def test_promises_are_compared_with_what_came_of_them(forge):
    await leading(forge)
    await forge.runner("gpu-1", times=TEN_SECONDS_A_STEP)
    job_id = await forge.submit()
    await eventually(lambda: forge.status(job_id), until=lambda status: status == "succeeded")
    job_id = await forge.submit()
    await eventually(lambda: forge.status(job_id), until=lambda status: status == "succeeded")

    def median_error() -> float:
        return metrics.PROMISE_ERROR_SECONDS.labels("0.5")._value.get()

    assert await eventually(median_error, until=lambda seconds: seconds > 20), "it promised 25 s and took none"


async def test_requests_that_were_not_made_take_no_more_than_their_share_of_the_scheduler(forge):
    """However many ask: the fold and the plan come between."""
    await leading(forge)
    question = ForecastQuestion(requested=JobRequested(at=now(), tenant="t", request=request()))
    assert (await asked(forge, question)).reason == "no runner is alive"
    forecasts = forge.schedulers[0][0]._forecasts
    forecasts._preview_from = float("inf")  # as after one that took long
    assert (await asked(forge, question)).reason == BUSY
    forecasts._preview_from = 0.0
    assert (await asked(forge, question)).reason == "no runner is alive"


async def test_the_work_that_waits_is_told_and_is_none_when_nothing_waits(forge):
    await leading(forge)

    def waiting() -> float:
        return metrics.WAITING_SECONDS.labels("tiny")._value.get()

    job_id = await forge.submit()
    await eventually(waiting, until=lambda seconds: seconds > 0)
    await forge.runner("gpu-1")
    await eventually(lambda: forge.status(job_id), until=lambda status: status == "succeeded")
    await eventually(waiting, until=lambda seconds: seconds == 0)
