"""What a server says is checked before anything of it is written, asked for or followed."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from dreamforge.cli.failure import CommandError
from dreamforge.cli.models.add import add
from dreamforge.cli.models.description import AddOptions
from dreamforge.cli.models.errors import DownloadFailed
from dreamforge.cli.models.install import client_of
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.models.model_files import ModelFileRefused
from dreamforge.runtime.network import AddressRefused
from dreamforge.runtime.service.settings import InvalidSettings, read

from .faulty_server import FaultyServer, serving

API = "api/models/o/m/revision/main"
COMMIT = "c0ffee"


@pytest.fixture
async def hub() -> AsyncIterator[FaultyServer]:
    async with serving({}) as server:
        yield server


@pytest.fixture
def settings(hub: FaultyServer, tmp_path: Path) -> CliSettings:
    models = tmp_path / "here" / "models"
    return CliSettings(_env_file=None, hub_url=hub.url, runner_models_dir=models, hub_token=SecretStr("secret"))


def list_files(hub: FaultyServer, index: dict[str, object], *names: str) -> None:
    siblings = [{"rfilename": name, "size": 2} for name in ("model_index.json", *names)]
    hub.files[API] = json.dumps({"id": "o/m", "sha": COMMIT, "siblings": siblings}).encode()
    hub.files[f"o/m/resolve/{COMMIT}/model_index.json"] = json.dumps(index).encode()


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("..", "../config.json"), ("../..", "../../config.json"), ("/etc", "/etc/config.json"),
        ("unet", "unet/con.json"), ("unet", "unet/a\\..\\b.json"), ("un\x1bet", "un\x1bet/config.json"),
    ],
)  # fmt: skip
async def test_a_path_that_leads_elsewhere_is_refused_before_anything_is_written(
    settings: CliSettings, hub: FaultyServer, tmp_path: Path, part: str, name: str
) -> None:
    list_files(hub, {part: ["diffusers", "UNet2DConditionModel"]}, name)
    with pytest.raises(ModelFileRefused):
        await add(settings, "o/m", AddOptions(), quiet=True)
    assert [each.path.rpartition("/")[2] for each in hub.requests] == ["main", "model_index.json"]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("sha", ["../../..", "a b", "", "c0ffee?x=", "a" * 65])
async def test_a_revision_that_is_no_commit_is_refused(settings: CliSettings, hub: FaultyServer, sha: str) -> None:
    hub.files[API] = json.dumps({"id": "o/m", "sha": sha, "siblings": []}).encode()
    with pytest.raises(DownloadFailed, match="does not describe a repository"):
        await add(settings, "o/m", AddOptions(), quiet=True)


async def test_a_redirect_inside_is_refused_unless_a_setting_allows_it(
    settings: CliSettings, hub: FaultyServer
) -> None:
    async with serving({"x": json.dumps({"sha": COMMIT}).encode()}) as inner:
        hub.faults[API] = lambda _: f"redirect:{inner.url}/x"
        with pytest.raises(AddressRefused, match="loopback"):
            await add(settings, "o/m", AddOptions(), quiet=True)
        assert not inner.requests
        allowed = settings.model_copy(update={"download_networks": "127.0.0.0/8"})
        with pytest.raises(Exception, match="no file"):
            await add(allowed, "o/m", AddOptions(), quiet=True)
        assert hub.requests[-1].headers["authorization"] == "Bearer secret"
        assert "authorization" not in inner.requests[0].headers


async def test_a_descriptor_of_a_stranger_reaches_no_server_inside(settings: CliSettings, tmp_path: Path) -> None:
    async with serving({"m.safetensors": b"x"}) as inner:
        with pytest.raises(AddressRefused):
            async with client_of(settings) as client:
                await client.get(f"{inner.url}/m.safetensors")
        async with client_of(settings, f"{inner.url}/m.safetensors") as client:  # a person typed it
            assert (await client.get(f"{inner.url}/m.safetensors")).content == b"x"
        assert "authorization" not in inner.requests[0].headers


def test_the_token_is_never_sent_in_clear(settings: CliSettings) -> None:
    with pytest.raises(CommandError, match="in clear"):
        client_of(settings.model_copy(update={"hub_url": "http://hub.example"}))


def test_a_wrong_network_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORGE_DOWNLOAD_NETWORKS", "10.0.0.0/8, office")
    with pytest.raises(InvalidSettings, match="office"):
        read(CliSettings)
