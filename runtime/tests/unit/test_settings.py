"""A wrong setting is reported by the name that the user has set, with what would be correct."""

from typing import Self

import pytest
from pydantic import model_validator

from dreamforge.runtime.service.settings import EXIT_USAGE, CommonSettings, load


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("FORGE_HEALTH_PORT", "70000", "less than or equal to 65535"),
        ("FORGE_RETRY_CAP_SECONDS", "0", "greater than 0"),
    ],
)
def test_a_wrong_setting_is_reported_by_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        load(CommonSettings)
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == EXIT_USAGE
    assert line.startswith(f"{name}: ")
    assert expected in line


def test_a_message_about_several_settings_names_them_itself(capsys: pytest.CaptureFixture[str]) -> None:
    class Settings(CommonSettings):
        @model_validator(mode="after")
        def _agree(self) -> Self:
            raise ValueError("FORGE_A must be 1 where FORGE_B is 2")

    with pytest.raises(SystemExit) as ended:
        load(Settings)
    assert ended.value.code == EXIT_USAGE
    assert capsys.readouterr().err.splitlines() == ["FORGE_A must be 1 where FORGE_B is 2"]
