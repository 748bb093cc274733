"""A cache of open jobs, so that most batches read nothing from Postgres.

Correct because there is one writer: an entry is added only after its rows were committed, and a session starts with an
empty cache.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from dreamforge.projector.folding.job import JobRow

# About 3 kB a job: a bound of 60 MB, and far more open jobs than a fleet works on at a time.
CAPACITY = 20_000


class JobsCache:
    """Open jobs; the least recently changed one is evicted first. Finished jobs are removed: they cannot change."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._jobs: OrderedDict[str, JobRow] = OrderedDict()
        self._capacity = capacity

    def known(self, job_ids: Iterable[str]) -> dict[str, JobRow]:
        """Those of the given jobs that are cached."""
        return {job_id: job for job_id in job_ids if (job := self._jobs.get(job_id)) is not None}

    def keep(self, jobs: Mapping[str, JobRow], erased: Iterable[str] = ()) -> None:
        """Add what was just committed."""
        for job_id in erased:
            self._jobs.pop(job_id, None)
        for job_id, job in jobs.items():
            if job.state.terminal:
                self._jobs.pop(job_id, None)
                continue
            self._jobs[job_id] = job
            self._jobs.move_to_end(job_id)
        while len(self._jobs) > self._capacity:
            self._jobs.popitem(last=False)
