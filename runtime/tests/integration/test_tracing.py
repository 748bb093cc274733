"""Spans reach a collector over real OTLP; one that is away, or takes nothing, costs spans and never work."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY

from dreamforge.contracts.errors import DependencyAway
from dreamforge.runtime import clock
from dreamforge.runtime.service import tracing
from dreamforge.runtime.service.settings import InvalidSettings
from dreamforge.runtime.testing.otlp_collector import OtlpCollector, otlp_collector

TRACE, PARENT = "a" * 32, "b" * 16
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpCollector]:
    with otlp_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        yield collector


def spans_that(outcome: str) -> float:
    return REGISTRY.get_sample_value("forge_trace_spans_total", {"outcome": outcome}) or 0.0


def test_spans_of_a_trace_are_exported_when_the_process_ends(collector: OtlpCollector) -> None:
    with tracing.exporting("example", 1.0, flush_seconds=30), tracing.span("outer", kind="consumer", parent=SAMPLED):
        with tracing.span("inner", parent=SAMPLED, attributes={"steps": 4, "left out": None}) as inner:
            inner.rename("inner, renamed")
            assert tracing.exemplar() == tracing.current_ids() != {}
        tracing.record("measured", seconds=2.0, ended_seconds_ago=1.0)
    spans = {span.name: span for span in collector.trace(TRACE)}
    outer, inner_span, measured = spans["outer"], spans["inner, renamed"], spans["measured"]
    assert (outer.parent_id, outer.kind, outer.service) == (PARENT, "consumer", "example")
    assert inner_span.parent_id == measured.parent_id == outer.span_id
    assert inner_span.attributes == {"steps": 4}
    assert measured.ended_ns - measured.began_ns == pytest.approx(2e9, abs=1e3)


def test_an_error_marks_its_span_with_its_code_and_none_of_its_words(collector: OtlpCollector) -> None:
    with (
        tracing.exporting("example", 1.0, flush_seconds=30),
        pytest.raises(DependencyAway),
        tracing.span("fails", parent=SAMPLED),
    ):
        raise DependencyAway(dependency="nats", reason="a prompt")
    (span,) = collector.spans
    assert (span.is_error, span.attributes) == (True, {"error.type": "dependency_away"})


def test_only_a_root_begins_a_trace_and_its_sampling_holds_for_all_below(collector: OtlpCollector) -> None:
    with tracing.exporting("example", 1e-12, flush_seconds=30):
        with tracing.span("no parent") as none:
            assert none.traceparent == ""
        with tracing.span("a request", root=True) as root:
            assert root.traceparent == ""
            assert tracing.exemplar() is None
            with tracing.span("below") as below:
                assert below.traceparent == ""
        with tracing.span("not sampled elsewhere", root=True, parent=UNSAMPLED) as continued:
            assert continued.traceparent == ""
        with tracing.span("sampled elsewhere", parent=SAMPLED):
            pass
    assert [span.name for span in collector.spans] == ["sampled elsewhere"]


def test_a_collector_that_takes_connections_and_never_answers_costs_spans_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "600")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    exported, full = spans_that("exported"), spans_that("queue_full")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with tracing.exporting("example", 1.0, flush_seconds=0.1):
            for _ in range(1000):
                with tracing.span("one of many", parent=SAMPLED):
                    pass
            began = clock.monotonic_seconds()
    assert clock.monotonic_seconds() - began < 30  # the exporter by itself would wait for 60 s
    assert spans_that("queue_full") - full == 400
    assert spans_that("exported") == exported


def test_a_refused_connection_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{gone.getsockname()[1]}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.05")
    failed = spans_that("export_failed")
    with tracing.exporting("example", 1.0, flush_seconds=30), tracing.span("lost", parent=SAMPLED):
        pass
    assert spans_that("export_failed") - failed == 1


def test_without_the_setting_nothing_of_opentelemetry_is_imported() -> None:
    code = (
        "import sys; from dreamforge.runtime.service import tracing, shell\n"
        "from dreamforge.runtime.log import event_store\n"
        "with tracing.exporting('x', 0.0), tracing.span('y', root=True) as span: assert not span.traceparent\n"
        "print(sorted(each for each in sys.modules if each.startswith('opentelemetry')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout == "[]\n"


def test_without_its_packages_the_setting_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "dreamforge.runtime.service.span_export", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(InvalidSettings, match=r"FORGE_TRACES_SAMPLED is 0.5: .*dreamforge-runtime\[tracing\]"):
        tracing.exporting("example", 0.5).__enter__()
