"""A forecast in a sentence or two."""

from dreamforge.cli.client.gateway import Json
from dreamforge.contracts.readable_seconds import readable_seconds

# What a person calls now.
SOON_SECONDS = 0.5


def forecast_text(forecast: Json) -> str:
    """Where and when, as a person would say it.

    >>> seconds = {"p50": 40.0, "p90": 61.0}
    >>> forecast_text({"runner_id": "gpu-1", "starts_in_seconds": None, "ends_in_seconds": seconds, "load_seconds": 0})
    'ends on gpu-1 in about 40 s (at most 1 min 1 s, nine times of ten)'
    """
    starts, about = forecast["starts_in_seconds"], _about(forecast["ends_in_seconds"])
    if starts is None:
        return f"ends on {forecast['runner_id']} {about}"
    load_seconds = forecast["load_seconds"]
    load = f", {readable_seconds(load_seconds)} of them to load the model" if load_seconds else ""
    tier = f" in tier {forecast['tier']}" if forecast["tier"] else ""
    when = _when(starts)
    text = f"starts on {forecast['runner_id']}{tier} {when}{load}, ends {about}"
    if forecast.get("rungs"):
        rungs = ", ".join(rung.replace("_", " ") for rung in forecast["rungs"])
        text += f"; with {rungs} from the start, since this size ran out of memory without"
    text += _before(forecast["ahead"])
    if forecast["idle_runner_id"]:
        idle = f"{forecast['idle_runner_id']} could start now and would end in"
        text += f"; {idle} {readable_seconds(forecast['idle_ends_in_seconds'])}"
    return text


def batch_forecast_text(dry_run: Json) -> str:
    """Where and when the jobs of a dry run of a batch would run.

    >>> ends, starts = {"p50": 40.0, "p90": 61.0}, {"p50": 0.1, "p90": 0.2}
    >>> shares = [{"runner_id": "gpu-1", "jobs": 3}, {"runner_id": "gpu-2", "jobs": 1}]
    >>> forecast = {"starts_in_seconds": starts, "ends_in_seconds": ends, "ahead": 0, "runners": shares}
    >>> batch_forecast_text({"forecast": forecast, "reason": None})
    'starts now, ends in about 40 s (at most 1 min 1 s, nine times of ten); 3 on gpu-1, 1 on gpu-2'
    """
    forecast = dry_run["forecast"]
    shares = ", ".join(f"{each['jobs']} on {each['runner_id']}" for each in forecast["runners"])
    text = f"starts {_when(forecast['starts_in_seconds'])}, ends {_about(forecast['ends_in_seconds'])}"
    missing = f"; no forecast {dry_run['reason']}" if dry_run["reason"] else ""
    return f"{text}; {shares}{_before(forecast['ahead'])}{missing}"


def _about(seconds: Json) -> str:
    most = f"(at most {readable_seconds(seconds['p90'])}, nine times of ten)"
    return f"in about {readable_seconds(seconds['p50'])} {most}"


def _when(seconds: Json) -> str:
    return f"in about {readable_seconds(seconds['p50'])}" if seconds["p50"] >= SOON_SECONDS else "now"


def _before(jobs: int) -> str:
    return f"; {jobs} job{'s' if jobs > 1 else ''} before it" if jobs else ""
