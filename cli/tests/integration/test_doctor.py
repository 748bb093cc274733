"""`dreamforge doctor` against real servers: sound ones, and each kind of unsound one."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from dreamforge.cli.doctor.findings import Finding, Severity
from dreamforge.cli.doctor.run import examine
from dreamforge.cli.settings import CliSettings, from_environment
from dreamforge.runtime.storage.objects import ObjectStore

WORTH_SAYING = (Severity.WARNING, Severity.FAULT)


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORGE_STATE_DIR", str(tmp_path / ".forge"))
    return tmp_path / ".forge"


async def examined(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> list[Finding]:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings: CliSettings = from_environment()
    return [finding async for finding in examine(settings, settings, None)]


def of(check: str, findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.check == check and finding.severity in WORTH_SAYING]


async def test_sound_servers_have_no_fault(monkeypatch: pytest.MonkeyPatch, forge_env: dict[str, str]) -> None:
    found = await examined(monkeypatch, forge_env)
    assert [finding for finding in found if finding.severity is Severity.FAULT] == []
    assert {"nats", "postgres"} <= {finding.check for finding in found if finding.severity is Severity.OK}
    assert any("no bucket" in finding.fact for finding in found if finding.check == "objects")
    await ObjectStore(from_environment()).ensure_bucket()
    again = await examined(monkeypatch, forge_env)
    assert any(finding.severity is Severity.OK for finding in again if finding.check == "objects")


async def test_one_fault_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch, forge_env: dict[str, str], empty_database_url: str
) -> None:
    wrong = {
        "FORGE_DATABASE_URL": empty_database_url,
        "FORGE_S3_ENDPOINT": "127.0.0.1:1",
        "FORGE_GATEWAY_URL": "http://127.0.0.1:1",
        "FORGE_SCHEDULER_AGEING": "3",
    }
    found = await examined(monkeypatch, forge_env | wrong)
    assert [finding.fact for finding in of("postgres", found)] == ["the database has no tables yet"]
    assert "s3 is not available" in of("objects", found)[0].fact
    assert "does not answer" in of("gateway", found)[0].fact
    assert "FORGE_SCHEDULER_AGEING is not a setting" in of("settings", found)[0].fact
    assert all(finding.remedy for finding in found if finding.severity in WORTH_SAYING)


async def test_streams_that_are_missing_are_named_with_the_command_that_makes_them(
    monkeypatch: pytest.MonkeyPatch, nats_url: str
) -> None:
    found = await examined(monkeypatch, {"FORGE_NATS_URL": nats_url, "FORGE_NATS_ALLOW_UNSYNCED": "true"})
    unsynced, missing = of("nats", found)
    assert "a power failure may lose accepted jobs" in unsynced.fact
    assert "dreamforge streams create" in missing.fact


async def test_a_setting_that_is_wrong_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    found = await examined(monkeypatch, {"FORGE_RUNNER_SLOTS": "none"})
    assert any("FORGE_RUNNER_SLOTS" in finding.fact for finding in of("settings", found))
