"""Structured logs and metrics, with the same ids in both."""

import json
import logging
import sys
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from loguru import logger
from prometheus_client import Counter, Gauge, Histogram

from dreamforge.runtime.service import tracing

if TYPE_CHECKING:
    from loguru import Message, Record

# From 1 ms (an append) to 60 s (a slow render).
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

TRACE_IDS = ("trace_id", "span_id")
# Of OpenTelemetry's data model for logs; SUCCESS is loguru's, and one above INFO.
SEVERITY_NUMBERS = {"TRACE": 1, "DEBUG": 5, "INFO": 9, "SUCCESS": 10, "WARNING": 13, "ERROR": 17, "CRITICAL": 21}

APPENDS = Counter("forge_appends_total", "Appends to the log, by outcome", ["outcome"])
APPEND_SECONDS = Histogram("forge_append_seconds", "Time of one append, ack included", buckets=LATENCY_BUCKETS)
PARKED = Counter("forge_parked_messages_total", "Messages that were parked, by stream", ["stream"])
LAG = Gauge("forge_follower_lag_messages", "Messages that a fold of a stream has not read yet", ["fold", "stream"])


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
    print(json.dumps(log_line(message.record), default=str), file=sys.stderr, flush=True)  # noqa: T201 the log itself


def log_line(record: "Record") -> dict[str, object]:
    """One line of the log, by the names of OpenTelemetry's data model for logs; ids of a trace where there is one."""
    extra = {**record["extra"], **tracing.current_ids()}
    service, ids = extra.pop("service", ""), {name: extra.pop(name) for name in TRACE_IDS if name in extra}
    where = {"code.function.name": f"{record['name']}.{record['function']}", "code.line.number": record["line"]}
    return {
        "timestamp": record["time"].isoformat(),
        "severity_text": record["level"].name,
        "severity_number": SEVERITY_NUMBERS.get(record["level"].name, 9),
        "body": record["message"],
        **ids,
        "resource": {"service.name": service},
        "attributes": {**extra, **where, **_exception(record)},
    }


def _exception(record: "Record") -> dict[str, str]:
    if (found := record["exception"]) is None or found.type is None:
        return {}
    return {"exception.type": found.type.__name__, "exception.message": str(found.value)}


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
