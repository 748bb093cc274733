"""Asks the scheduler when a job will start and end. Whatever goes wrong is an answer: nothing depends on a forecast."""

import asyncio
from collections.abc import Iterable

from pydantic import ValidationError

from dreamforge.contracts.errors import DependencyAway, EventTooLarge
from dreamforge.contracts.events import JobRequested
from dreamforge.contracts.forecasts import ForecastAnswer, ForecastQuestion, RequestedBatch
from dreamforge.contracts.jobs.decisions import RequestJob
from dreamforge.contracts.log.subjects import FORECASTS
from dreamforge.runtime.log.bus import Bus

# A scheduler answers within a few ms; one that is down or does not lead answers nothing.
ANSWER_SECONDS = 0.5
NO_ANSWER = "no scheduler answers"


async def forecast_of_job(bus: Bus, job_id: str) -> ForecastAnswer:
    """What is expected of an open job."""
    return await _ask(bus, ForecastQuestion(job_id=job_id))


async def forecast_of_request(bus: Bus, command: RequestJob) -> ForecastAnswer:
    """What would be expected of a job, if it were requested now. Its prompt stays here: no time depends on it."""
    return await _ask(bus, ForecastQuestion(requested=_without_texts(command)))


async def forecast_of_batch(bus: Bus, commands: Iterable[RequestJob]) -> ForecastAnswer:
    """What would be expected of jobs, if they were requested now, as one batch and in this order."""
    requests: dict[str, JobRequested] = {}
    jobs, index_of = [], dict[str, int]()
    for command in commands:
        requested = _without_texts(command)
        alike = requested.model_dump_json(exclude={"at"})
        requests.setdefault(alike, requested)
        jobs.append(index_of.setdefault(alike, len(index_of)))
    return await _ask(bus, ForecastQuestion(batch=RequestedBatch(requests=tuple(requests.values()), jobs=tuple(jobs))))


def _without_texts(command: RequestJob) -> JobRequested:
    """What the time of a job depends on."""
    request = command.request.model_copy(update={"prompt": "-", "negative_prompt": "", "seed": 0})
    return JobRequested(at=command.now, tenant=command.tenant, priority=command.priority, request=request)


async def _ask(bus: Bus, question: ForecastQuestion) -> ForecastAnswer:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            message = await bus.ask(FORECASTS, question.model_dump_json().encode())
        return ForecastAnswer.model_validate_json(message.data)
    except (TimeoutError, DependencyAway, EventTooLarge, ValidationError):
        return ForecastAnswer(reason=NO_ANSWER)
