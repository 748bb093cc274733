"""`models add` and `verify` refuse weights that the renderer would make up, and say what it would not read."""

import shutil
from pathlib import Path

import pytest

from dreamforge.cli.models.weight_check import check_weights
from dreamforge.cli.settings import CliSettings
from dreamforge.runtime.storage.model_facts import ModelUnusable
from dreamforge.runtime.testing.model_files import safetensors_bytes, write_pipeline

pytestmark = pytest.mark.torch
OURS = Path(__file__).parents[3] / "models" / "forge-shapes"
UNET = "unet/diffusion_pytorch_model.fp16.safetensors"


@pytest.fixture
def settings(tmp_path: Path) -> CliSettings:
    return CliSettings(runner_models_dir=tmp_path)


def test_a_whole_model_passes_in_silence(settings: CliSettings, capsys: pytest.CaptureFixture[str]) -> None:
    check_weights(settings, OURS, "pipeline")
    assert capsys.readouterr().err == ""


def test_missing_weights_are_refused_with_their_part_and_keys(settings: CliSettings, tmp_path: Path) -> None:
    folder = shutil.copytree(OURS, tmp_path / "short")
    (file,) = (folder / "unet").glob("*.safetensors")
    file.write_bytes(safetensors_bytes({"conv_in.bias": (48,)}))
    with pytest.raises(ModelUnusable, match=r"unet does not load: \d+ weights are missing from its files: .*weight"):
        check_weights(settings, folder, "pipeline")


def test_a_lora_and_a_check_of_headers_read_nothing(settings: CliSettings, tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "m")
    check_weights(settings, folder, "lora")
    check_weights(settings.model_copy(update={"models_check": "headers"}), folder, "pipeline")


def test_a_check_that_does_not_end_judges_no_model(
    settings: CliSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model_index.json").write_text("{")
    check_weights(settings, tmp_path / "m", "pipeline")
    assert "the weights of m were not checked one by one" in capsys.readouterr().err
