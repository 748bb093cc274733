"""The work of one webhook: which jobs have something to send now, later, or just being sent."""

import asyncio
import heapq
from dataclasses import dataclass, field
from datetime import datetime

from dreamforge.contracts.deliveries import Backlog, Deliveries
from dreamforge.contracts.webhooks import WebhookState


@dataclass(slots=True)
class Endpoint:
    """In memory of the gateway that delivers. A job is in one of `ready`, `waiting` and `busy`, or settled.

    `stopped`: its backlog is full, and what comes after `backlog.through` is read when there is room. `job_end`: of a
    webhook for one job that is over, the sequence after which nothing more of it can come.
    """

    webhook_id: str
    state: WebhookState
    deliveries: Deliveries
    backlog: Backlog
    limit_jobs: int
    stopped: bool = False
    job_end: int | None = None
    ready: dict[str, None] = field(default_factory=dict)
    waiting: list[tuple[datetime, str]] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, job_id: str, sequence: int) -> None:
        """An event that the webhook wants was read from JOBS."""
        if job_id not in self.backlog.jobs and len(self.backlog.jobs) >= self.limit_jobs:
            self.stopped = True
            return
        new = job_id not in self.backlog.jobs
        if self.backlog.take(job_id, sequence, self.deliveries.queue(job_id)) and new:
            self.schedule(job_id)
        self.backlog.through = sequence

    @property
    def is_finished(self) -> bool:
        """Whether its job is over, and all that it wants of it has arrived. What is parked may yet be replayed."""
        if self.job_end is None or self.backlog.through < self.job_end:
            return False
        queues = self.deliveries.queues.values()
        return not (self.ready or self.busy or self.deliveries.parked or any(queue.is_open for queue in queues))

    def note_end(self, job_id: str, sequence: int, *, is_terminal: bool) -> None:
        """An event of a job was read and, where it is wanted, taken."""
        created = self.state.created
        if is_terminal and created is not None and created.job_id == job_id:
            self.job_end = sequence
        if self.job_end == sequence:
            self.wake.set()

    def schedule(self, job_id: str) -> None:
        """Something of the job is to be sent; when, its queue says."""
        if job_id in self.busy:
            return  # looked at when that is done
        retry_at = self.deliveries.queue(job_id).retry_at
        if retry_at is not None:
            heapq.heappush(self.waiting, (retry_at, job_id))
        else:
            self.ready[job_id] = None
        self.wake.set()

    def begin(self, now: datetime, connections: int) -> list[str]:
        """The jobs of which the next event is sent now."""
        while self.waiting and self.waiting[0][0] <= now:
            _, job_id = heapq.heappop(self.waiting)
            due = self.deliveries.queue(job_id).retry_at
            if job_id not in self.busy and (due is None or due <= now):
                self.ready[job_id] = None
        begun = list(self.ready)[: max(0, connections - len(self.busy))]
        for job_id in begun:
            del self.ready[job_id]
        self.busy.update(begun)
        return begun

    def end(self, job_id: str) -> bool:
        """An attempt was made and recorded; True when there is room again after the backlog was full."""
        self.busy.discard(job_id)
        queue = self.deliveries.queue(job_id)
        if queue.is_open or self.backlog.until(job_id, queue) > queue.after:
            self.schedule(job_id)
        else:
            self.backlog.jobs.pop(job_id, None)
        self.wake.set()
        if self.stopped and len(self.backlog.jobs) <= self.limit_jobs // 2:
            self.stopped = False
            return True
        return False

    def recovered(self) -> None:
        """The receiver takes deliveries again: what waits for a retry is sent now."""
        for _, job_id in self.waiting:
            if job_id not in self.busy:
                self.ready[job_id] = None
        self.waiting.clear()
        self.wake.set()
