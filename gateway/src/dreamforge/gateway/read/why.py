"""Why a job is in its state, in sentences. Pure: made of rows, live heartbeats and the rule of the scheduler."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from dreamforge.contracts.events import Candidate, Decision
from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.forecasts import Forecast
from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.placement import Models, Needs, RunnerLoad, judge
from dreamforge.contracts.readable_seconds import readable_seconds
from dreamforge.contracts.readable_sizes import readable_sizes
from dreamforge.contracts.replies import AttemptDecision, AttemptReply, JobSummary, Waiting


@dataclass(frozen=True, slots=True)
class Commitment:
    """What is already assigned to a runner."""

    slots: int = 0
    bytes: int = 0


def judged(
    needs: Needs,
    models: Models,
    fleet: Iterable[Heartbeat],
    commitments: Mapping[str, Commitment],
) -> tuple[Candidate, ...]:
    """Every live runner as the scheduler would judge it for this request now, best first, then the refused."""
    none = Commitment()
    found = [
        judge(needs, models, RunnerLoad(heartbeat, given.bytes, given.slots))
        for heartbeat in fleet
        for given in (commitments.get(heartbeat.runner_id, none),)
    ]
    return tuple(sorted(found, key=lambda c: (c.score is None, -(c.score or 0), c.runner_id)))


def summary(job: JobSummary, waiting: Waiting | None, now: datetime) -> str:
    """One or two sentences about a job."""
    match job.status:
        case Status.QUEUED if waiting is not None:
            return _why_it_waits(job, waiting, now)
        case Status.ASSIGNED:
            return f"Attempt {job.attempt} was given to {job.runner_id}, which has not started it yet."
        case Status.RUNNING:
            ending = " It was asked to stop, and will." if job.cancel_requested else ""
            return f"{job.runner_id} is rendering attempt {job.attempt}.{ending}"
        case Status.SUCCEEDED:
            return f"It succeeded on {job.runner_id or 'its runner'} with attempt {job.attempt}{_after(job)}."
        case Status.FAILED:
            reason = f"{job.failure_reason}: {job.failure_message}".rstrip(": ")
            return f"It failed for good after {_count(job.attempt, 'attempt')}{_after(job)}. The last reason: {reason}."
        case Status.CANCELLED:
            return f"It was cancelled on request{_after(job)}."
    return "It waits for a runner."


def decision_summary(decision: Decision, runner_id: str) -> str:
    """A recorded decision, worded for people."""
    chosen = next((c for c in decision.candidates if c.runner_id == runner_id), None)
    others = [c for c in decision.candidates if c.runner_id != runner_id]
    why = f" ({_listed(chosen.reasons)})" if chosen is not None and chosen.reasons else ""
    queue = f"{decision.waited_seconds:.1f} s in a queue of {_count(decision.queue_length, 'job')}"
    sentences = [f"After {queue} it was given to {runner_id}{why}."]
    if decision.ends_in_seconds is not None:
        sentences.append(f"It was expected to end {readable_seconds(decision.ends_in_seconds)} later.")
    scored = [f"{c.runner_id} ({_suits(c)})" for c in others if c.score is not None]
    refused = [f"{c.runner_id} ({c.refused})" for c in others if c.refused is not None]
    if scored:
        sentences.append(f"It fitted less well on {_listed(scored)}.")
    if refused:
        sentences.append(f"Not possible: {_listed(refused)}.")
    return readable_sizes(" ".join(sentences))


def _suits(candidate: Candidate) -> str:
    """How well it would have suited: by time, where times were measured."""
    if candidate.ends_in_seconds is None:
        return f"score {candidate.score:g}"
    return f"would have ended it {readable_seconds(candidate.ends_in_seconds)} later"


def attempt_decision(attempt: AttemptReply, decision: Decision) -> AttemptDecision:
    """A recorded decision and its outcome."""
    return AttemptDecision(
        attempt=attempt.attempt,
        runner_id=attempt.runner_id,
        status=attempt.status,
        assigned_at=attempt.assigned_at,
        decision=decision,
        reason=attempt.reason,
        message=attempt.message,
        summary=decision_summary(decision, attempt.runner_id),
    )


def _why_it_waits(job: JobSummary, waiting: Waiting, now: datetime) -> str:
    if waiting.held is not None and waiting.held_since is not None:
        held = {"job": "It is", "tenant": f"The queue of tenant {job.tenant} is", "fleet": "Every queue is"}[
            waiting.held
        ]
        return f"{held} held since {waiting.held_since:%Y-%m-%d %H:%M:%S} UTC: no runner gets it before it is released."
    if waiting.retry_at is not None and waiting.retry_at > now:
        seconds = (waiting.retry_at - now).total_seconds()
        reason = f" after {job.failure_reason}" if job.failure_reason else ""
        return f"Attempt {job.attempt} failed{reason}; the next one may start in {seconds:.1f} s."
    queue = f" {_count(waiting.ahead, 'waiting job')} before it." if waiting.ahead else " It is next in the queue."
    if not waiting.candidates:
        return f"It waits because no runner is alive.{queue}"
    able = [c for c in waiting.candidates if c.score is not None]
    if able:
        if waiting.forecast is not None and waiting.forecast.idle_runner_id is not None:
            return _waits_for_a_better_one(waiting.forecast) + queue
        names = _listed([c.runner_id for c in able])
        return f"It waits for its turn: {names} could take it now.{queue}{_expected(waiting.forecast)}"
    reasons = _listed(f"{c.runner_id} ({c.refused})" for c in waiting.candidates)
    return readable_sizes(f"It waits because no runner can take it now: {reasons}.{queue}{_expected(waiting.forecast)}")


def _waits_for_a_better_one(forecast: Forecast) -> str:
    return (
        f"It waits for {forecast.runner_id}, which is expected to end it in {_seconds(forecast.ends_in_seconds.p50)}; "
        f"{forecast.idle_runner_id} could start it now and would end it in {_seconds(forecast.idle_ends_in_seconds)}."
    )


def _expected(forecast: Forecast | None) -> str:
    if forecast is None:
        return ""
    times = forecast.starts_in_seconds, forecast.ends_in_seconds
    starts, ends = (_seconds(each.p50) for each in times if each is not None)
    when = f" It is expected to start on {forecast.runner_id} in {starts} and to end in {ends}."
    if not forecast.rungs:
        return when
    rungs = _listed(rung.replace("_", " ") for rung in forecast.rungs)
    return f"{when} It begins there with {rungs}, since a render of this size ran out of memory without."


def _seconds(seconds: float | None) -> str:
    return readable_seconds(seconds or 0.0)


def _after(job: JobSummary) -> str:
    if job.finished_at is None:
        return ""
    return f", {(job.finished_at - job.requested_at).total_seconds():.1f} s after it was requested"


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)
