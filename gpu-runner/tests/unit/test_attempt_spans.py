"""Spans of attempts as a collector gets them: those of a job side by side, and what the child did by its own times."""

from collections.abc import Iterator

import pytest

from dreamforge.contracts.events import Decision, JobAssigned
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gpu_runner.protocol.messages import Image, ModelLoaded, StepDone, Timings
from dreamforge.gpu_runner.protocol.recipe import Recipe
from dreamforge.gpu_runner.supervisor.assignment import Delivery, ReceivedAssignment
from dreamforge.gpu_runner.supervisor.attempt_spans import AttemptSpans, attempt_span, say_outcome
from dreamforge.runtime import clock
from dreamforge.runtime.service import tracing
from dreamforge.runtime.testing.otlp_collector import CollectedSpan, OtlpCollector, otlp_collector

TRACE, REQUESTED = "a" * 32, "b" * 16
REQUEST = RenderRequest(
    model_id="m", preset="p", prompt="x", width_px=64, height_px=32, steps=4, guidance_scale=0, seed=0, images=3
)
DECISION = Decision(waited_seconds=0, effective_priority=0, queue_length=1, required_bytes=0, candidates=())


class NeverAcknowledged(Delivery):
    """The message of an assignment that is not ended here."""


def assignment(attempt: int, flags: str = "01") -> ReceivedAssignment:
    event = JobAssigned(
        at=clock.now(),
        attempt=attempt,
        runner_id="r",
        instance_id="i",
        preset="p",
        estimated_vram_bytes=0,
        decision=DECISION,
    )
    return ReceivedAssignment("j", event, NeverAcknowledged(), f"00-{TRACE}-{REQUESTED}-{flags}", is_first=True)


def step(index: int, number: int, elapsed_seconds: float, size: int) -> StepDone:
    return StepDone(
        task_id="t",
        image_index=index,
        step=number,
        steps=4,
        elapsed_seconds=elapsed_seconds,
        together=size,
        run_size=size,
    )


def image(index: int, render_seconds: float) -> Image:
    return Image.model_construct(
        image_index=index,
        body=b"png",
        content_type="image/png",
        recipe=Recipe.model_construct(seed=index),
        timings=Timings(render_seconds=render_seconds, encode_seconds=0.25),
    )


def seconds_of(span: CollectedSpan) -> float:
    return (span.ended_ns - span.began_ns) / 1e9


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[OtlpCollector]:
    with otlp_collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        yield collector


def test_attempts_of_a_job_are_siblings_below_its_request(collector: OtlpCollector) -> None:
    with tracing.exporting("gpu-runner", 0.5, flush_seconds=30):
        for attempt, outcome in ((1, "failed: child_crashed"), (2, "succeeded")):
            with attempt_span(assignment(attempt)) as span:
                say_outcome(span, outcome)
        with attempt_span(assignment(3, flags="00")):
            AttemptSpans(REQUEST, (0,)).image(image(0, 1.0))
    first, second = collector.spans
    assert {(span.trace_id, span.parent_id, span.name) for span in (first, second)} == {
        (TRACE, REQUESTED, "process JOBS")
    }
    assert (first.is_error, first.attributes["error.type"], first.attributes["dreamforge.attempt"]) == (
        True,
        "child_crashed",
        1,
    )
    assert (second.is_error, second.attributes["dreamforge.outcome"]) == (False, "succeeded")


def test_a_run_is_one_span_with_its_images_and_one_that_is_begun_again_counts_once(collector: OtlpCollector) -> None:
    """Two of three images together, which fail and are rendered in halves; times are those that the child measured."""
    with tracing.exporting("gpu-runner", 1.0, flush_seconds=30), attempt_span(assignment(1)):
        spans = AttemptSpans(REQUEST, (0, 1, 2))
        spans.loaded(ModelLoaded(model_id="m", seconds=3.0, bytes=7))
        spans.step(step(0, 1, 1.0, size=2))
        spans.step(step(0, 4, 4.0, size=1))
        spans.image(image(0, 4.0))
        spans.step(step(1, 4, 8.0, size=2))
        spans.image(image(1, 4.0))
        spans.image(image(2, 4.0))
    top, *below = sorted(collector.spans, key=lambda span: span.name != "process JOBS")
    assert {span.parent_id for span in below} == {top.span_id}
    assert sorted(span.name for span in below) == ["encode image"] * 3 + ["generate_content m"] * 2 + ["load m"]
    runs = sorted(
        (span for span in below if span.name.startswith("gen")), key=lambda span: span.ended_ns - span.began_ns
    )
    assert [span.attributes["gen_ai.request.choice.count"] for span in runs] == [1, 2]
    assert [(span.ended_ns - span.began_ns) / 1e9 for span in runs] == [pytest.approx(4), pytest.approx(8)]
    assert {(span.ended_ns - span.began_ns) / 1e9 for span in below if span.name.startswith("enc")} == {0.25}
