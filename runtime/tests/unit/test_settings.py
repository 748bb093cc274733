"""A wrong setting is one line: the name that the user has set, its value, where it is, what would be right."""

from pathlib import Path
from typing import Self

import pytest
from pydantic import Field, model_validator

from dreamforge.runtime.service.settings import (
    EXIT_SETTINGS,
    CommonSettings,
    InvalidSettings,
    given,
    load,
    read,
    variables,
)
from dreamforge.runtime.storage.settings import StorageSettings


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def lines_of(kind: type[CommonSettings] = StorageSettings) -> list[str]:
    with pytest.raises(InvalidSettings) as refused:
        read(kind)
    return str(refused.value).splitlines()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("FORGE_S3_ENDPOINT", "http://s3:9000", "must be host:port, without http://"),
        ("FORGE_S3_ENDPOINT", "::1:9000", "must be host:port"),
        ("FORGE_S3_ENDPOINT", "unix:s3.sock", "or unix:/path of a socket"),
        ("FORGE_HEALTH_PORT", "70000", "less than or equal to 65535"),
        ("FORGE_HEALTH_PORT", "http", "valid integer"),
        ("FORGE_RETRY_CAP_SECONDS", "0", "greater than 0"),
        ("FORGE_RETRY", "often", "there are FORGE_RETRY_MAX_ATTEMPTS"),
        ("FORGE_LOG_LEVEL", "loud", "must be one of TRACE"),
        ("FORGE_NATS_URL", "http://nats:4222", "must be nats://host:port"),
        ("FORGE_NATS_URL", "nats://a:4222,nats://b:port", "must be nats://host:port"),
        ("FORGE_NATS_MONITOR_URL", "nats:8222", "must be http://host:8222"),
        ("FORGE_LOG_JSON", "maybe", "valid boolean"),
    ],
)
def test_a_wrong_setting_is_one_line(monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str) -> None:
    monkeypatch.setenv(name, value)
    (line,) = lines_of()
    assert line.startswith(f"{name} is {value!r}: ")
    assert expected in line


def test_a_service_prints_it_and_ends_with_a_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORGE_HEALTH_PORT", "70000")
    with pytest.raises(SystemExit) as ended:
        load(CommonSettings)
    assert ended.value.code == EXIT_SETTINGS
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("FORGE_DATABASE_URL", "mysql://forge:secret@db/forge"),
        ("FORGE_DATABASE_URL", "postgresql://forge:secret@1@db/forge"),
        ("FORGE_NATS_URL", "ftp://forge:secret@nats:4222"),
    ],
)
def test_a_password_is_not_in_the_line(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    (line,) = lines_of()
    assert line.startswith(f"{name} is ")
    assert "***" in line
    assert "secret" not in line


def test_the_line_says_which_file_it_is_in() -> None:
    Path(".env").write_text("FORGE_HEALTH_PORT=70000\n", encoding="utf-8")
    (line,) = lines_of()
    assert f"in {Path('.env').absolute()}" in line


@pytest.mark.parametrize("content", [b"\xff\xfeF\x00", b"FORGE_TENANT=caf\xe9"])
def test_a_file_that_is_no_text_is_one_line(content: bytes) -> None:
    Path(".env").write_bytes(content)
    (line,) = lines_of()
    assert line.startswith(".env is not UTF-8 text")
    with pytest.raises(InvalidSettings, match="not UTF-8"):
        given()


def test_a_byte_order_mark_is_no_part_of_the_first_name() -> None:
    Path(".env").write_bytes(b"\xef\xbb\xbfFORGE_HEALTH_PORT=81\n")
    assert read(CommonSettings).health_port == 81


def test_an_empty_value_is_one_that_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [each.name for each in variables(CommonSettings)]
    expected = CommonSettings(_env_file=None)
    for name in names:
        monkeypatch.setenv(name, "")
    found = read(CommonSettings)
    assert found == expected
    assert found.model_fields_set == set()
    Path(".env").write_text("".join(f"{name}=\n" for name in names), encoding="utf-8")
    assert read(CommonSettings) == expected
    assert given().names() == set()


def test_the_environment_wins_over_the_file_and_an_argument_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("FORGE_HEALTH_PORT=81\nFORGE_LOG_LEVEL=debug\n", encoding="utf-8")
    monkeypatch.setenv("FORGE_HEALTH_PORT", "82")
    assert (read(CommonSettings).health_port, read(CommonSettings).log_level) == (82, "DEBUG")
    assert read(CommonSettings, health_port=83).health_port == 83
    assert given()["FORGE_HEALTH_PORT"] == ("82", "environment")
    assert given()["FORGE_LOG_LEVEL"] == ("debug", ".env")
    assert given()["FORGE_S3_BUCKET"] is None


def test_a_name_that_nothing_reads_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORGE_HEALTH_PROT", "FORGE_HEALTH_HOST", "FORGE_TEST_SERVERS"):
        monkeypatch.setenv(name, "127.0.0.1")
    assert given().unknown((CommonSettings,)) == ["FORGE_HEALTH_PROT"]


def test_a_message_about_several_settings_names_them_itself() -> None:
    class Settings(CommonSettings):
        @model_validator(mode="after")
        def _agree(self) -> Self:
            raise ValueError("FORGE_A must be 1 where FORGE_B is 2")

    assert lines_of(Settings) == ["FORGE_A must be 1 where FORGE_B is 2"]


def test_every_wrong_setting_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Settings(CommonSettings):
        own_number: int = Field(default=1, ge=1)

    monkeypatch.setenv("FORGE_OWN_NUMBER", "0")
    monkeypatch.setenv("FORGE_HEALTH_PORT", "-1")
    assert [line.split(" ")[0] for line in lines_of(Settings)] == ["FORGE_HEALTH_PORT", "FORGE_OWN_NUMBER"]


def test_a_secret_may_be_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("out of a file\n")
    (tmp_path / ".env").write_text("FORGE_S3_SECRET_KEY=of .env")
    monkeypatch.setenv("FORGE_S3_SECRET_KEY_FILE", str(tmp_path / "key"))
    assert read(StorageSettings).s3_secret_key.get_secret_value() == "out of a file"
    assert given()["FORGE_S3_SECRET_KEY"] == ("out of a file", str(tmp_path / "key"))
    assert given().unknown((StorageSettings,)) == []
    monkeypatch.setenv("FORGE_S3_SECRET_KEY", "of the environment")
    assert read(StorageSettings).s3_secret_key.get_secret_value() == "of the environment"


def test_a_file_of_a_setting_is_read_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORGE_DATABASE_URL_FILE", str(tmp_path / "nowhere"))
    assert lines_of() == [
        f"FORGE_DATABASE_URL_FILE is {str(tmp_path / 'nowhere')!r}, which cannot be read: No such file or directory"
    ]
    (tmp_path / "nowhere").write_text("mysql://db")
    (line,) = lines_of()
    assert line.startswith(f"FORGE_DATABASE_URL is 'mysql://db' in {tmp_path / 'nowhere'}: ")
