"""The build of torch follows from the machine, and a CPU machine never installs a CUDA package."""

import tomllib
from pathlib import Path

import pytest

from dreamforge.cli.setup_machine import (
    TORCH_VERSION,
    SetupFailed,
    builds,
    is_fitting,
    links_from,
    pinned_date,
    require_pinned,
)


def test_an_offered_wheel_wins_and_nothing_else_is_asked() -> None:
    (build,) = builds(has_driver=True, offered=("/wheels",))
    assert build.options == ("--no-index", "--find-links", "/wheels")


def test_without_a_driver_only_the_cpu_build_is_possible() -> None:
    (build,) = builds(has_driver=False, offered=())
    assert build.options == ("--torch-backend=cpu",)


def test_with_a_driver_the_build_follows_the_driver() -> None:
    assert builds(has_driver=True, offered=())[0].options == ("--torch-backend=auto",)


@pytest.mark.parametrize("installed", [None, "2.12.0", "2.12.0+cpu"])
def test_another_version_does_not_fit(installed: str | None) -> None:
    assert not is_fitting(installed, has_driver=False, links=())


def test_what_the_owner_offered_fits_also_beside_a_driver() -> None:
    assert is_fitting(f"{TORCH_VERSION}+cpu", has_driver=True, links=("/wheels",))
    assert is_fitting(f"{TORCH_VERSION}+cu130", has_driver=True, links=())


def test_no_links_are_no_links() -> None:
    assert links_from({}) == ()


def test_what_torch_needs_is_pinned_by_the_workspace_date(tmp_path: Path) -> None:
    project = tmp_path / "pyproject.toml"
    project.write_text('[tool.uv]\nexclude-newer = "2026-01-02T00:00:00Z"\n')
    assert pinned_date(project) == ("--exclude-newer", "2026-01-02T00:00:00Z")
    assert tomllib.loads(project.read_text())


def test_a_file_that_is_not_pinned_is_named(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    lock = (root / "uv.lock").read_text()
    (tmp_path / "requirements.lock").write_text((root / "requirements.lock").read_text())
    (tmp_path / "uv.lock").write_text(lock)
    require_pinned(tmp_path)
    package = next(each for each in tomllib.loads(lock)["package"] if each["name"] == "httpx")
    known = package["wheels"][0]["hash"]
    (tmp_path / "uv.lock").write_text(lock.replace(known, "sha256:" + "0" * 64))
    with pytest.raises(SetupFailed, match=rf"httpx {package['version']}.*task lock"):
        require_pinned(tmp_path)
