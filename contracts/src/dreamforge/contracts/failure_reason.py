"""Why attempts fail: what settings of retries name, without the events that say it."""

from enum import StrEnum


class FailureReason(StrEnum):
    """Why an attempt, or a whole job, ended without its images."""

    OUT_OF_MEMORY = "out_of_memory"
    INVALID_REQUEST = "invalid_request"
    MODEL_BROKEN = "model_broken"
    MODEL_MISSING = "model_missing"
    CHILD_CRASHED = "child_crashed"
    STALLED = "stalled"
    RUNNER_LOST = "runner_lost"
    RUNNER_RESTARTED = "runner_restarted"
    RUNNER_DRAINED = "runner_drained"
    UPLOAD_FAILED = "upload_failed"
    START_DEADLINE = "start_deadline"
    RUN_DEADLINE = "run_deadline"
    INTERNAL = "internal"
