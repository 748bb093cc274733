"""stack.json is there complete or not at all, and a dead stack's record is no stack."""

import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dreamforge.cli.settings import CliSettings, gateway_url, with_running_stack
from dreamforge.cli.stack_record import RunningProcess, StackRecord, read_record, remove_record, write_record
from dreamforge.runtime.embedded.processes import identity
from dreamforge.runtime.private_folder import NotPrivate


def record(folder: Path, **changes: object) -> StackRecord:
    return StackRecord(
        pid=os.getpid(),
        identity=identity(os.getpid()) or "",
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        folder=folder,
        gateway_url="http://127.0.0.1:9999",
        settings={"FORGE_NATS_URL": "nats://secret@127.0.0.1:1", "FORGE_S3_SECURE": "false"},
        processes=(RunningProcess(name="nats", pid=1, address="127.0.0.1:1", log=folder / "nats.log"),),
    ).model_copy(update=changes)


def test_what_is_written_is_read_until_it_is_removed(tmp_path: Path) -> None:
    written = record(tmp_path)
    write_record(written, tmp_path)
    assert read_record(tmp_path) == written
    assert stat.S_IMODE((tmp_path / "stack.json").stat().st_mode) == 0o600
    remove_record(tmp_path)
    assert read_record(tmp_path) is None


def test_a_later_process_with_the_same_pid_is_not_the_stack(tmp_path: Path) -> None:
    write_record(record(tmp_path, identity=f"{os.getpid()}-1"), tmp_path)
    assert read_record(tmp_path) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_a_record_of_another_user_is_not_believed(tmp_path: Path) -> None:
    write_record(record(tmp_path), tmp_path)
    os.chown(tmp_path / "stack.json", 12345, 12345)
    with pytest.raises(NotPrivate, match="belongs to user 12345"):
        read_record(tmp_path)


def test_an_incomplete_file_is_no_stack(tmp_path: Path) -> None:
    write_record(record(tmp_path), tmp_path)
    text = (tmp_path / "stack.json").read_text()
    (tmp_path / "stack.json").write_text(text[: len(text) // 2])
    assert read_record(tmp_path) is None


def test_the_running_stack_completes_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FORGE_")]:  # as where the tests' servers are named
        monkeypatch.delenv(name)
    settings = with_running_stack(CliSettings(_env_file=None), record(tmp_path))
    assert settings.nats_url == "nats://secret@127.0.0.1:1"
    assert settings.s3_secure is False
    assert gateway_url(settings) == "http://127.0.0.1:9999"


def test_given_settings_win(tmp_path: Path) -> None:
    given = CliSettings(_env_file=None, nats_url="nats://mine:4222", gateway_port=1234)
    settings = with_running_stack(given, record(tmp_path))
    assert "nats_url" in given.model_fields_set
    assert settings.gateway_url == ""


def test_the_record_names_every_address_for_other_tools(tmp_path: Path) -> None:
    write_record(record(tmp_path), tmp_path)
    found = json.loads((tmp_path / "stack.json").read_text())
    assert found["settings"]["FORGE_NATS_URL"].startswith("nats://")
    assert found["processes"][0]["address"] == "127.0.0.1:1"
