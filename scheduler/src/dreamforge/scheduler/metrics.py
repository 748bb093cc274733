"""The scheduler's metrics."""

from prometheus_client import Counter, Gauge, Histogram

from dreamforge.contracts.events import FailureReason
from dreamforge.runtime.service.telemetry import LATENCY_BUCKETS

QUEUED = Gauge("forge_scheduler_queued_jobs", "Jobs that could run now")
OPEN = Gauge("forge_scheduler_open_jobs", "Jobs without a terminal event")
PLAN_SECONDS = Histogram(
    "forge_scheduler_plan_seconds", "Time of one plan", buckets=(0.0001, 0.0002, 0.0005, *LATENCY_BUCKETS)
)
ASSIGNMENTS = Counter("forge_scheduler_assignments_total", "Assignments, by outcome of their append", ["outcome"])
WAIT_SECONDS = Histogram(
    "forge_scheduler_wait_seconds", "From requested to assigned", buckets=(*LATENCY_BUCKETS, 300.0, 1800.0, 7200.0)
)
FAILED_ATTEMPTS = Counter("forge_scheduler_failed_attempts_total", "Attempts that this scheduler failed", ["reason"])
ACTIVE = Gauge("forge_scheduler_active", "1 while this scheduler is the one that decides")
PROMISE_RATIO = Histogram(
    "forge_scheduler_promise_ratio",
    "Seconds that an attempt took by those that were promised: above 1, it ended later",
    buckets=(0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0),
)
PROMISE_ERROR_SECONDS = Gauge(
    "forge_scheduler_promise_error_seconds",
    "How far the last promises were from the truth: what this share of them stayed below",
    ["quantile"],
)
WAITING_SECONDS = Gauge(
    "forge_scheduler_waiting_seconds",
    "How long the fastest runner would take for the jobs that wait for a model; a guess where none has measured it",
    ["model"],
)

for _reason in FailureReason:  # a rate of what begins with its first failure would not show that one
    FAILED_ATTEMPTS.labels(str(_reason))
