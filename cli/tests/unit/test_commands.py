"""Options are parsed, and refused with a hint that shows the format."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dreamforge.cli.commands.events import parse_start
from dreamforge.cli.commands.logs import LogTail
from dreamforge.cli.failure import CommandError
from dreamforge.cli.jobs.request_options import size
from dreamforge.contracts.file_names import image_file_name

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("1200", 1200),
        ("10m", datetime(2026, 1, 2, 11, 50, tzinfo=UTC)),
        ("1d", datetime(2026, 1, 1, 12, tzinfo=UTC)),
        ("2026-01-01T00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_replay_starts_at_a_sequence_or_a_time(text: str, start: int | datetime) -> None:
    assert parse_start(text, NOW) == start


def test_another_start_is_refused_with_how_to_write_it() -> None:
    with pytest.raises(CommandError, match="yesterday") as refused:
        parse_start("yesterday", NOW)
    assert "10m" in refused.value.hint


def test_a_size_is_two_numbers() -> None:
    assert size("512x768") == {"width_px": 512, "height_px": 768}
    assert size(None) == {}
    with pytest.raises(CommandError):
        size("512")


def test_a_prompt_of_signs_still_names_a_file() -> None:
    assert image_file_name("¿…?", "01a20638-499f-7288-a6c2-5e668ec21e03", 2) == "picture-8ec21e03-2.png"


def test_a_tail_gives_each_line_once_and_complete(tmp_path: Path) -> None:
    path = tmp_path / "gateway.log"
    path.write_bytes(b"1\n2\n3\n4 is not com")
    tail = LogTail(path, 2)
    assert tail.new_lines() == ["2", "3"]
    with path.open("ab") as file:
        file.write(b"plete\n5\n")
    assert tail.new_lines() == ["4 is not complete", "5"]
    assert tail.new_lines() == []


def test_a_tail_follows_to_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "gateway.log"
    path.write_bytes(b"old\n")
    tail = LogTail(path, 10)
    assert tail.new_lines() == ["old"]
    path.rename(tmp_path / "gateway.log.1")
    path.write_bytes(b"new\n")
    assert tail.new_lines() == ["new"]
