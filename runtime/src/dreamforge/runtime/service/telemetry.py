"""Structured logs and metrics, with the same ids in both."""

import json
import logging
import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from loguru import logger
from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from loguru import Message

# From 1 ms (an append) to 60 s (a slow render).
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

APPENDS = Counter("forge_appends_total", "Appends to the log, by outcome", ["outcome"])
APPEND_SECONDS = Histogram("forge_append_seconds", "Time of one append, ack included", buckets=LATENCY_BUCKETS)
PARKED = Counter("forge_parked_messages_total", "Messages that were parked, by stream", ["stream"])
LAG = Gauge("forge_follower_lag_messages", "Messages a follower has not folded yet", ["stream"])


def configure_logging(service: str, *, level: str = "INFO", as_json: bool = True) -> None:
    """Send every log line of the process, libraries included, to stderr in one format."""
    logger.remove()
    logger.configure(extra={"service": service})
    if as_json:
        logger.add(_json_sink, level=level.upper(), format="{message}")
    else:
        logger.add(sys.stderr, level=level.upper(), format="{time:HH:mm:ss.SSS} {level:<7} {message}", backtrace=False)
    logging.basicConfig(handlers=[_InterceptHandler()], level=logging.WARNING, force=True)


def _json_sink(message: "Message") -> None:
    record = message.record
    line = {
        "time": record["time"].isoformat(),
        "level": record["level"].name,
        "message": record["message"],
        "where": f"{record['name']}:{record['line']}",
        **record["extra"],
    }
    if (exception := record["exception"]) is not None:
        line["exception"] = repr(exception.value)
    print(json.dumps(line, default=str), file=sys.stderr, flush=True)  # noqa: T201 the log itself


class _InterceptHandler(logging.Handler):
    """Passes log lines of libraries that use the standard module to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname if record.levelname in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL") else "INFO"
        logger.opt(depth=6, exception=record.exc_info).log(level, record.getMessage())


def log_context(**ids: str) -> AbstractContextManager[None]:
    """Put ids (request_id, job_id, trace_id) on every log line of this task."""
    return logger.contextualize(**ids)


def trace_id_of(traceparent: str) -> str:
    """The trace id inside a W3C traceparent, or "".

    >>> trace_id_of("00-" + "a" * 32 + "-" + "b" * 16 + "-01") == "a" * 32
    True
    """
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else ""
