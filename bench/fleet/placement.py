"""Which service and which server is on which host. NATS is on all of them."""

# Service and host; runners have numbers, as each is a user of its own.
SERVICES = (
    ("gateway", "a"), ("gateway", "b"), ("scheduler", "b"), ("scheduler", "c"), ("projector", "c"), ("projector", "a"),
    ("runner-1", "a"), ("runner-2", "b"), ("runner-3", "c"), ("runner-4", "c"),
)  # fmt: skip
RUNNERS = tuple(name for name, _ in SERVICES if name.startswith("runner"))
POSTGRES_HOSTS, S3_HOST = ("a", "b"), "c"
