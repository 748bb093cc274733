"""Print the dashboard for Grafana as JSON: what users feel first, then why. `task dashboards` writes it."""

import json
import sys
from typing import Any

WIDTH, HEIGHT, ACROSS = 8, 8, 3
# Title, unit, and the queries with their legends.
PANELS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "Wait for a runner",
        "s",
        (
            ("histogram_quantile(0.5, sum by (le) (rate(forge_scheduler_wait_seconds_bucket[5m])))", "p50"),
            ("histogram_quantile(0.95, sum by (le) (rate(forge_scheduler_wait_seconds_bucket[5m])))", "p95"),
        ),
    ),
    (
        "Jobs",
        "short",
        (
            ("max(forge_scheduler_queued_jobs)", "waiting"),
            ("max(forge_scheduler_open_jobs)", "open"),
        ),
    ),
    ("Work that waits", "s", (("max by (model) (forge_scheduler_waiting_seconds)", "{{model}}"),)),
    (
        "Attempts by outcome",
        "ops",
        (("sum by (outcome) (rate(forge_runner_attempts_total[5m]))", "{{outcome}}"),),
    ),
    (
        "Share of time that a card renders, and loads",
        "percentunit",
        (
            (
                'sum by (instance) (rate(forge_runner_device_seconds_total{activity="render"}[5m]))',
                "{{instance}} renders",
            ),
            ('sum by (instance) (rate(forge_runner_device_seconds_total{activity="load"}[5m]))', "{{instance}} loads"),
        ),
    ),
    (
        "From the request to the first picture",
        "s",
        (
            ("histogram_quantile(0.5, sum by (le) (rate(forge_runner_request_to_picture_seconds_bucket[5m])))", "p50"),
            ("histogram_quantile(0.95, sum by (le) (rate(forge_runner_request_to_picture_seconds_bucket[5m])))", "p95"),
            (
                "histogram_quantile(0.95, sum by (le) (rate(forge_runner_start_to_picture_seconds_bucket[5m])))",
                "p95 from the start of the attempt",
            ),
        ),
    ),
    (
        "Failed attempts by reason",
        "ops",
        (
            ("sum by (reason) (rate(forge_runner_failed_attempts_total[5m]))", "{{reason}}"),
            ("sum by (reason) (rate(forge_scheduler_failed_attempts_total[5m]))", "{{reason}}, by the scheduler"),
        ),
    ),
    (
        "Seconds an image",
        "s",
        (
            ("histogram_quantile(0.5, sum by (le) (rate(forge_runner_render_seconds_bucket[5m])))", "p50"),
            ("histogram_quantile(0.95, sum by (le) (rate(forge_runner_render_seconds_bucket[5m])))", "p95"),
        ),
    ),
    (
        "Promised against real",
        "s",
        (("max by (quantile) (forge_scheduler_promise_error_seconds)", "p{{quantile}} of the error"),),
    ),
    (
        "Requests by status",
        "reqps",
        (("sum by (status) (rate(forge_http_seconds_count[5m]))", "{{status}}"),),
    ),
    (
        "Time to answer, p99 by route",
        "s",
        (
            (
                "topk(8, histogram_quantile(0.99, sum by (le, route) (rate(forge_http_seconds_bucket[5m]))))",
                "{{route}}",
            ),
        ),
    ),
    (
        "Append to the log",
        "s",
        (
            ("histogram_quantile(0.5, sum by (le) (rate(forge_append_seconds_bucket[5m])))", "p50"),
            ("histogram_quantile(0.99, sum by (le) (rate(forge_append_seconds_bucket[5m])))", "p99"),
        ),
    ),
    (
        "How far folds are behind",
        "s",
        (("max by (stream) (forge_projection_lag_seconds)", "tables, {{stream}}"),),
    ),
    (
        "How full what is stored in is",
        "percentunit",
        (
            ("max by (server) (forge_nats_store_bytes / forge_nats_store_limit_bytes)", "NATS {{server}}"),
            ("max by (stream) (forge_stream_bytes / forge_stream_limit_bytes)", "stream {{stream}}"),
            ("max by (folder) (1 - forge_disk_free_bytes / forge_disk_bytes)", "disk of {{folder}}"),
        ),
    ),
    (
        "Largest streams",
        "bytes",
        (("topk(5, max by (stream) (forge_stream_bytes))", "{{stream}}"),),
    ),
    (
        "Messages that folds have not read",
        "short",
        (("max by (fold, stream) (forge_follower_lag_messages)", "{{fold}}, {{stream}}"),),
    ),
    (
        "Trouble",
        "short",
        (
            ("sum by (waiting_for) (increase(forge_retries_total[5m]))", "waits for {{waiting_for}}"),
            ("sum(increase(forge_runner_child_crashes_total[5m]))", "renderers that died"),
            ("sum(increase(forge_parked_messages_total[5m]))", "messages parked"),
        ),
    ),
)


def panel(number: int, title: str, unit: str, queries: tuple[tuple[str, str], ...]) -> dict[str, Any]:  # Any: JSON
    """One panel in the grid."""
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "gridPos": {
            "x": number % ACROSS * WIDTH,
            "y": number // ACROSS * HEIGHT,
            "w": WIDTH,
            "h": HEIGHT,
        },
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend}
            for index, (expression, legend) in enumerate(queries)
        ],
    }


def dashboard() -> dict[str, Any]:  # Any: JSON
    """The whole of it."""
    return {
        "uid": "dreamforge",
        "title": "Dream Forge",
        "tags": ["dreamforge"],
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "panels": [panel(number, *each) for number, each in enumerate(PANELS)],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dashboard(), indent=1) + "\n")
