"""A run of a few steps on a minute model: resumed it is the same run, and its folder is an ordinary pipeline."""

from dataclasses import replace
from pathlib import Path

import autoencoder
import denoiser
import pytest
import torch
from export import export
from patches import Basis, compute_basis
from settings import Settings, load_settings

from dreamforge.contracts.models.descriptor import ModelDescriptor
from dreamforge.gpu_runner.rendering.pipeline import read_pipeline
from dreamforge.runtime.storage.model_folder import DESCRIPTOR_NAME, model_digest

SMALL = Settings(channels=(16, 32), head_width=16, text_width=32, batch=2, autoencoder_width=16, latent_channels=8)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def basis() -> Basis:
    return compute_basis(SMALL.latent_channels, SMALL.seed)


@pytest.mark.torch
def test_a_resumed_run_is_the_same_run(basis: Basis, tmp_path: Path) -> None:
    whole = denoiser.begin(SMALL, basis, CPU)
    for _ in range(4):
        denoiser.advance(whole)
        if whole.step == 2:
            denoiser.save(whole, tmp_path / "at-two.safetensors")
    resumed = denoiser.begin(SMALL, basis, CPU)
    denoiser.restore(resumed, tmp_path / "at-two.safetensors")
    assert resumed.step == 2
    denoiser.advance(resumed)
    denoiser.advance(resumed)
    for one, other in zip(whole.averaged.parameters(), resumed.averaged.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.torch
def test_the_exported_folder_loads_as_any_pipeline_and_paints_unknown_words(basis: Basis, tmp_path: Path) -> None:
    run = denoiser.begin(SMALL, basis, CPU)
    export(run.averaged, autoencoder.begin(SMALL, basis, CPU).model, SMALL, tmp_path)
    sealed = ModelDescriptor.model_validate_json((tmp_path / DESCRIPTOR_NAME).read_text())
    assert sealed.digest == model_digest(tmp_path)
    pipeline = read_pipeline(tmp_path, dtype=torch.float32).pipeline
    painted = pipeline(prompt="a fluffy dragon", num_inference_steps=2, output_type="np").images
    assert painted.shape == (1, 64, 64, 3)


@pytest.mark.torch
def test_the_decoder_learns_in_a_few_steps(basis: Basis) -> None:
    run = autoencoder.begin(replace(SMALL, autoencoder_batch=4, autoencoder_steps=30), basis, CPU)
    errors = [autoencoder.advance(run) for _ in range(30)]
    assert sum(errors[-10:]) < 0.7 * sum(errors[:10])


def test_latents_and_pixels_turn_into_each_other(basis: Basis) -> None:
    latents = torch.randn(2, SMALL.latent_channels, 8, 8)
    assert torch.allclose(basis.encode(basis.decode(latents)), latents, atol=1e-3)


@pytest.mark.parametrize("name", ["cpu.toml", "gpu.toml"])
def test_the_configurations_are_settings(name: str) -> None:
    assert load_settings(Path(__file__).parents[2] / "configs" / name).steps > 1000


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text("stepz = 3\n")
    with pytest.raises(ValueError, match="stepz"):
        load_settings(path)
