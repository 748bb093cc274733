"""What a graph of a runner shows."""

from prometheus_client import Counter, Histogram

from dreamforge.contracts.events import FailureReason

#: 10 ms is a tiny model's step, 10 minutes a large one's many images on a CPU.
RENDER_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)

ATTEMPTS = Counter("forge_runner_attempts_total", "Attempts this runner ended, by outcome", ["outcome"])
FAILED_ATTEMPTS = Counter("forge_runner_failed_attempts_total", "Attempts that failed here, by reason", ["reason"])
DEVICE_SECONDS = Counter(
    "forge_runner_device_seconds_total", "What the device of this runner did: render, load, idle", ["activity"]
)
RENDER_SECONDS = Histogram("forge_runner_render_seconds", "Time of one image in the child", buckets=RENDER_BUCKETS)
CHILD_CRASHES = Counter("forge_runner_child_crashes_total", "Children that died without being asked to")
START_TO_PICTURE_SECONDS = Histogram(
    "forge_runner_start_to_picture_seconds",
    "From the start of an attempt to its first stored image",
    buckets=RENDER_BUCKETS,
)
REQUEST_TO_PICTURE_SECONDS = Histogram(
    "forge_runner_request_to_picture_seconds",
    "From the request of a job to the first image that an attempt stores",
    buckets=(*RENDER_BUCKETS, 1800.0, 7200.0),
)

for _reason in FailureReason:  # a rate of what begins with its first failure would not show that one
    FAILED_ATTEMPTS.labels(str(_reason))
