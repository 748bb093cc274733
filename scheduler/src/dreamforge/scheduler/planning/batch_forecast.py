"""What the forecasts of the jobs of a batch say of the batch. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from dreamforge.contracts.events import EstimateSource
from dreamforge.contracts.forecasts import BatchForecast, Forecast, RunnerShare, SecondsRange

#: From the most to the least certain.
BY_CERTAINTY = (EstimateSource.MEASURED, EstimateSource.SCALED, EstimateSource.GUESSED)


def batch_forecast(jobs: Sequence[Forecast]) -> BatchForecast:
    """Of at least one job that waits: when the first starts and the last ends, and which runner has how many.

    The bounds of a range are each the latest of its jobs, so that half and nine of ten are of the batch as of its last
    job: the errors of jobs on one runner are of one sign, and do not cancel out.
    """
    shares: dict[str, list[Forecast]] = defaultdict(list)
    for job in jobs:
        shares[job.runner_id].append(job)
    by_size = sorted(shares.items(), key=lambda share: (-len(share[1]), share[0]))
    starts = [job.starts_in_seconds for job in jobs if job.starts_in_seconds is not None]
    return BatchForecast(
        jobs=len(jobs),
        starts_in_seconds=min(starts, key=lambda each: each.p50),
        ends_in_seconds=_latest(job.ends_in_seconds for job in jobs),
        ahead=min(job.ahead for job in jobs),
        estimate=max((job.estimate for job in jobs), key=BY_CERTAINTY.index),
        runners=tuple(
            RunnerShare(runner_id=runner_id, jobs=len(of), ends_in_seconds=_latest(job.ends_in_seconds for job in of))
            for runner_id, of in by_size
        ),
    )


def _latest(ranges: Iterable[SecondsRange]) -> SecondsRange:
    found = tuple(ranges)
    return SecondsRange(p50=max(each.p50 for each in found), p90=max(each.p90 for each in found))
