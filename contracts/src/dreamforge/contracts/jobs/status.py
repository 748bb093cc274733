"""Where a job can stand: for those who compare it, without the events that lead there. Pure."""

from enum import StrEnum


class Status(StrEnum):
    """Where a job stands."""

    NONE = "none"
    QUEUED = "queued"
    ASSIGNED = "assigned"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ERASED = "erased"


TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.ERASED})
ON_RUNNER = frozenset({Status.ASSIGNED, Status.RUNNING})
