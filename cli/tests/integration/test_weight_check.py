"""`models add` and `verify` refuse weights that the renderer would make up, and say what it would not read."""

import shutil
from pathlib import Path

import pytest

from dreamforge.cli.models import weight_check
from dreamforge.cli.models.add import add
from dreamforge.cli.models.description import AddOptions
from dreamforge.cli.models.registry import registry_client
from dreamforge.cli.models.weight_check import check_weights
from dreamforge.cli.settings import CliSettings
from dreamforge.runtime.storage.model_facts import ModelUnusable
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME
from dreamforge.runtime.testing.model_files import safetensors_bytes, write_pipeline
from dreamforge.runtime.testing.streams import declare_streams

pytestmark = pytest.mark.torch
OURS = Path(__file__).parents[3] / "models" / "forge-shapes"


@pytest.fixture
def settings(tmp_path: Path) -> CliSettings:
    return CliSettings(runner_models_dir=tmp_path)


def test_a_whole_model_passes_in_silence(settings: CliSettings, capsys: pytest.CaptureFixture[str]) -> None:
    check_weights(settings, OURS, "pipeline")
    assert capsys.readouterr().err == ""


async def test_add_refuses_them_before_anything_is_described_or_registered(
    nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await declare_streams(nats_url)
    settings = CliSettings(nats_url=nats_url, runner_models_dir=tmp_path / "models")
    folder = shutil.copytree(OURS, tmp_path / "short", ignore=shutil.ignore_patterns(DESCRIPTOR_NAME))
    (file,) = (folder / "vae").glob("*.safetensors")
    file.write_bytes(safetensors_bytes({"decoder.layers.0.bias": (1,)}))
    with pytest.raises(ModelUnusable, match=r"vae does not load: \d+ weights are missing from its files: decoder"):
        await add(settings, str(folder), AddOptions(family="diffusers"), quiet=True)
    assert list(settings.models_dir.glob("*/*")) == []
    async with registry_client(settings) as registry:
        assert (await registry.state("short")).descriptor is None


def test_a_lora_and_a_check_of_headers_read_nothing(settings: CliSettings, tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "m")
    check_weights(settings, folder, "lora")
    check_weights(settings.model_copy(update={"models_check": "headers"}), folder, "pipeline")


@pytest.mark.parametrize("program", ["import time; time.sleep(60)", "exit(1)", "print('no JSON')", ""])
def test_a_check_that_does_not_come_to_its_end_judges_no_model(
    settings: CliSettings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(weight_check, "CHECK", ("-c", program))
    monkeypatch.setattr(weight_check, "TIMEOUT_SECONDS", 0.5 if "sleep" in program else 30)
    check_weights(settings, OURS, "pipeline")
    assert "the weights of forge-shapes were not checked one by one" in capsys.readouterr().err
