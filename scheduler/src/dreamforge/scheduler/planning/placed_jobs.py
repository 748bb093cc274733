"""The jobs that are promised or assigned to runners or run there: by runner, and by when they are to end. Pure."""

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from datetime import datetime

from dreamforge.scheduler.planning.open_job import OpenJob

NO_JOBS: Mapping[str, OpenJob] = {}


class PlacedJobs:
    """Every job that is on a runner, once."""

    def __init__(self) -> None:
        self._by_runner: dict[str, dict[str, OpenJob]] = {}
        self._ends: list[tuple[datetime, str, str]] = []
        self._moved: dict[str, None] = {}

    def on(self, runner_id: str) -> Mapping[str, OpenJob]:
        """Those on a runner, by id."""
        return self._by_runner.get(runner_id, NO_JOBS)

    @property
    def runners(self) -> tuple[str, ...]:
        """The runners with at least one."""
        return tuple(self._by_runner)

    def put(self, job: OpenJob) -> None:
        """A job is on a runner, or has changed there."""
        held = self._by_runner.setdefault(job.runner_id, {})
        before = held.get(job.job_id)
        held[job.job_id] = job
        self._moved[job.runner_id] = None
        if before is None or before.ends_at != job.ends_at:
            self._forget_end(before)
            if job.ends_at is not None:
                insort(self._ends, (job.ends_at, job.runner_id, job.job_id))

    def remove(self, job: OpenJob) -> None:
        """A job has left its runner. Errors: KeyError if it is not there."""
        held = self._by_runner[job.runner_id]
        self._forget_end(held.pop(job.job_id))
        self._moved[job.runner_id] = None
        if not held:
            del self._by_runner[job.runner_id]

    def moved(self) -> list[str]:
        """The runners whose jobs have changed since the last call."""
        found = list(self._moved)
        self._moved.clear()
        return found

    def by_end(self, now: datetime) -> Iterator[tuple[float, str]]:
        """Each job that was promised an end: seconds between that and now, before or after, and its runner.

        The least first.
        """
        ends = self._ends
        after = bisect_left(ends, (now,))
        before = after - 1
        while before >= 0 or after < len(ends):
            late = (now - ends[before][0]).total_seconds() if before >= 0 else None
            left = (ends[after][0] - now).total_seconds() if after < len(ends) else None
            if left is None or (late is not None and late < left):
                assert late is not None
                yield late, ends[before][1]
                before -= 1
            else:
                yield left, ends[after][1]
                after += 1

    def _forget_end(self, job: OpenJob | None) -> None:
        if job is not None and job.ends_at is not None:
            del self._ends[bisect_left(self._ends, (job.ends_at, job.runner_id, job.job_id))]
