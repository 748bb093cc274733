"""A log line keeps its message, whatever its format."""

import json
from pathlib import Path

from dreamforge.cli.commands.logs import lines_naming
from dreamforge.cli.stack.log_lines import LogLine, colour_of, parse_line, show_line


def test_text_that_is_not_a_json_log_line_is_its_own_message() -> None:
    for raw in ("Traceback (most recent call last):", "{broken", "[1, 2]", '{"no": "body"}', ""):
        assert parse_line(raw) == LogLine(raw)


def test_ids_come_behind_the_message() -> None:
    attributes = {"job_id": "J", "code.line.number": 7}
    line = {"timestamp": "2026-01-01T10:11:12+00:00", "severity_text": "ERROR", "body": "[no] markup"}
    raw = json.dumps(line | {"attributes": attributes})
    assert show_line("gateway", parse_line(raw), "cyan").plain == "10:11:12 gateway      [no] markup  job_id=J"


def test_services_are_told_apart() -> None:
    services = ("a", "b", "c")
    assert len({colour_of(service, services) for service in services}) == 3


def test_what_every_service_said_of_one_job_is_found_also_in_older_files(tmp_path: Path) -> None:
    def line(time: str, job_id: str) -> str:
        return json.dumps({"timestamp": time, "body": "hi", "attributes": {"job_id": job_id}})

    (tmp_path / "gateway.log").write_text(f"{line('10:00', 'J')}\n{line('10:01', 'K')}\nJ in a traceback\n")
    (tmp_path / "runner.log.1").write_text(f"{line('09:00', 'J')}\n")
    paths = [tmp_path / "gateway.log", tmp_path / "runner.log"]
    assert [service for service, _ in lines_naming(paths, '"J"')] == ["gateway", "runner"]
    assert len(list(lines_naming(paths, ""))) == 3
