"""The cache holds open jobs only, and no more than it may."""

from dreamforge.contracts.jobs.course import Status
from dreamforge.contracts.jobs.state import JobState
from dreamforge.projector.folding.job import JobRow
from dreamforge.projector.writing.jobs_cache import JobsCache


def open_job(job_id: str) -> JobRow:
    return JobRow(job_id, state=JobState(status=Status.QUEUED))


def test_the_least_recently_changed_job_goes_first() -> None:
    cache = JobsCache(capacity=2)
    for job_id in ("a", "b", "a", "c"):
        cache.keep({job_id: open_job(job_id)})

    assert cache.known(["a", "b", "c"]).keys() == {"a", "c"}


def test_a_finished_job_is_removed() -> None:
    cache = JobsCache()
    cache.keep({"a": open_job("a")})
    cache.keep({"a": JobRow("a", state=JobState(status=Status.SUCCEEDED))})

    assert cache.known(["a"]) == {}
