"""What a span is to those who make one: kinds, attributes, and the span of what is not traced."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType, TracebackType
from typing import Literal, Protocol

SpanKind = Literal["internal", "server", "client", "producer", "consumer"]
#: None is left out.
SpanAttributes = Mapping[str, str | int | float | bool | Sequence[str] | None]
NO_ATTRIBUTES: SpanAttributes = MappingProxyType({})


class TraceSpan(Protocol):
    """A span that is not over."""

    @property
    def traceparent(self) -> str:
        """W3C trace context in which this span is the parent; "" while nothing is traced."""

    def rename(self, name: str) -> None:
        """Give it the name that was not known when it began."""

    def set(self, attributes: SpanAttributes) -> None:
        """Add attributes."""

    def fail(self, error_type: str) -> None:
        """What it did did not succeed; `error_type` is one of few words."""


class Tracing(Protocol):
    """What makes spans, once tracing is on (`span_export`)."""

    def span(
        self,
        name: str,
        kind: SpanKind,
        parent: str,
        attributes: SpanAttributes,
        began_seconds_ago: float,
        *,
        root: bool,
    ) -> AbstractContextManager[TraceSpan]:
        """See `tracing.span`."""

    def record(self, name: str, seconds: float, ended_seconds_ago: float, attributes: SpanAttributes) -> None:
        """See `tracing.record`."""

    def current(self) -> tuple[str, str] | None:
        """Ids of trace and span; None outside of any span."""

    def stop(self, within_seconds: float) -> None:
        """Export what waits, for so long at most."""


class _NoSpan:
    """Of what is not traced."""

    traceparent = ""

    def rename(self, name: str) -> None:
        """Nothing has a name."""

    def set(self, attributes: SpanAttributes) -> None:
        """Nothing is kept."""

    def fail(self, error_type: str) -> None:
        """Nothing is kept."""

    def __enter__(self) -> TraceSpan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None, /
    ) -> None:
        return None


NO_SPAN = _NoSpan()


def is_sampled(traceparent: str) -> bool:
    """Whether the trace of a W3C traceparent is recorded: the last bit of its flags.

    >>> is_sampled("00-" + "a" * 32 + "-" + "b" * 16 + "-01"), is_sampled("00-a-b-02"), is_sampled("")
    (True, False, False)
    """
    return traceparent[-1:] in tuple("13579bdf")
