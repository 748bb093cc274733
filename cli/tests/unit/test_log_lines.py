"""A log line keeps its message, whatever its format."""

import json

from dreamforge.cli.stack.log_lines import LogLine, colour_of, parse_line, show_line


def test_text_that_is_not_a_json_log_line_is_its_own_message() -> None:
    for raw in ("Traceback (most recent call last):", "{broken", "[1, 2]", '{"no": "message"}', ""):
        assert parse_line(raw) == LogLine(raw)


def test_ids_come_behind_the_message() -> None:
    raw = json.dumps({"time": "2026-01-01T10:11:12+00:00", "level": "ERROR", "message": "[no] markup", "job_id": "J"})
    assert show_line("gateway", parse_line(raw), "cyan").plain == "10:11:12 gateway      [no] markup  job_id=J"


def test_services_are_told_apart() -> None:
    services = ("a", "b", "c")
    assert len({colour_of(service, services) for service in services}) == 3
