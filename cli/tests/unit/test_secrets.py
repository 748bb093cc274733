"""`dreamforge secrets`: complete, private, never the same, never over others."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from dreamforge.cli.commands.secrets import contents
from dreamforge.cli.main import app
from dreamforge.cli.service_settings import kinds
from dreamforge.runtime.log.seeds import public_key_of
from dreamforge.runtime.service.settings import declared

COMPOSE = Path(__file__).parents[3] / "deploy" / "compose"


def made(*runners: str) -> dict[str, str]:
    return contents(list(runners), nats="nats:4222", postgres="postgres:5432")


def test_each_user_of_the_server_has_a_seed_of_its_own() -> None:
    files = made("gpu-1", "gpu-2")
    seeds = {name: text for name, text in files.items() if name.endswith(".seed")}
    assert set(seeds) == {
        *("gateway.seed", "scheduler.seed", "projector.seed"),
        *("runner-gpu-1.seed", "runner-gpu-2.seed"),
    }
    assert all(public_key_of(seed) in files["users.conf"] for seed in seeds.values())
    assert not [name for name, seed in seeds.items() if seed in files["users.conf"]]


def test_no_two_installations_share_a_secret() -> None:
    assert not set(made("gpu-1").values()) & set(made("gpu-1").values())


def test_files_are_for_their_owner_alone_and_never_written_over(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert CliRunner().invoke(app, ["secrets", str(folder)]).exit_code == 0
    assert not [path for path in (folder, *folder.iterdir()) if path.stat().st_mode & 0o077]
    before = {path: path.read_text() for path in folder.iterdir()}
    again = CliRunner().invoke(app, ["secrets", str(folder)])
    assert again.exit_code != 0
    assert {path: path.read_text() for path in folder.iterdir()} == before


def test_compose_has_every_secret_that_it_names() -> None:
    project = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    files = {Path(each["file"]).name for each in project["secrets"].values()}
    assert files | {"users.conf"} == set(made("gpu-1"))
    for name, service in project["services"].items():
        assert set(service.get("secrets", ())) <= set(project["secrets"]), name


@pytest.mark.parametrize("file", ["compose.yaml", "compose.dev.yaml"])
def test_compose_sets_nothing_that_no_service_reads(file: str) -> None:
    known = frozenset[str]().union(*(declared(kind) for _, kind in kinds()))
    services = yaml.safe_load((COMPOSE / file).read_text())["services"]
    given = {name for service in services.values() for name in service.get("environment", {}) if name[:6] == "FORGE_"}
    assert given - known == set()
