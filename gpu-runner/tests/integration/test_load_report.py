"""What the libraries only log while they load: missing, unread and marked weights, and settings that nothing knows."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from runner_testkit.tasks import render_task

from dreamforge.contracts.events import FailureReason, WarningCode
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderFailed
from dreamforge.runtime.storage.model_inspection import inspect_model

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = pytest.mark.torch
Tensors = dict[str, "Tensor"]


@pytest.fixture(scope="module")
def renderer() -> Any:
    """A renderer on the CPU. Any: its module imports torch."""
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


@pytest.fixture(scope="module")
def parts(cache: Path) -> Path:
    """The tiny Stable Diffusion as diffusers saves it."""
    from runner_testkit.families import ensure_family

    return ensure_family(cache, "stable-diffusion")


@pytest.fixture(scope="module")
def whole_file(cache: Path, parts: Path) -> Path:
    """Its weights in one file, beside the configurations of its parts."""
    import torch

    from dreamforge.gpu_runner.rendering.pipeline import read_pipeline

    from .original_layout import save_as_one_file

    folder = cache / "one"
    shutil.copytree(parts, folder, ignore=shutil.ignore_patterns("*.safetensors", "dreamforge.json"))
    save_as_one_file(read_pipeline(parts, dtype=torch.float32).pipeline, folder / "model.safetensors")
    return folder


def changed(folder: Path, to: Path, part: str, change: Callable[[Tensors], Tensors]) -> Path:
    """A copy of a model with other tensors in the file of one part; "." is the model's own folder."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(folder, to)
    (file,) = (to / part).glob("*.safetensors")
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return to


def without(*marks: str) -> Callable[[Tensors], Tensors]:
    """Leaves out the tensors whose name has one of these in it."""
    return lambda tensors: {key: each for key, each in tensors.items() if not any(mark in key for mark in marks)}


def beside(**names: str) -> Callable[[Tensors], Tensors]:
    """Adds a tensor without numbers under each of these names, as trainers do to mark a file."""
    import torch

    return lambda tensors: tensors | {name: torch.ones(0) for name in names.values()}


def task_of(folder: Path, **changes: Any) -> Any:
    """A task for a model in a folder."""
    values = {"model_id": folder.name, "model_path": str(folder), "model_digest": "0" * 64, "steps": 2}
    return render_task(**values | changes)


def refused(renderer: Any, folder: Path, *, by_names: bool = True) -> str:
    """Why a model does not load, and, `by_names`, is refused by the names in its files already."""
    from dreamforge.gpu_runner.rendering.load_report import WeightsWrong
    from dreamforge.gpu_runner.rendering.weight_check import check_weights

    with pytest.raises(RenderFailed) as failed:
        renderer.load(ModelKey.of_task(task_of(folder)))
    assert failed.value.reason is FailureReason.MODEL_BROKEN
    assert not failed.value.retryable
    if by_names:
        with pytest.raises(WeightsWrong) as wrong:
            check_weights(folder)
        assert str(wrong.value) in str(failed.value)
    return str(failed.value)


def warned(renderer: Any, folder: Path, **changes: Any) -> dict[WarningCode, tuple[str, ...]]:
    """The words of each warning of a task."""
    task = task_of(folder, **changes)
    renderer.load(ModelKey.of_task(task))
    warnings = renderer.warnings(task)
    assert len({each.code for each in warnings}) == len(warnings)
    codes = (WarningCode.KEYS_IGNORED, WarningCode.SETTINGS_IGNORED)
    return {each.code: each.words for each in warnings if each.code in codes}


def rendered(renderer: Any, folder: Path, **changes: Any) -> bytes:
    """The rows of one image."""
    task = task_of(folder, **changes)
    renderer.load(ModelKey.of_task(task))
    rows: bytes = renderer.render(task, 1, lambda step, of, preview=None: None).scanlines
    return rows


@pytest.mark.parametrize(
    ("part", "mark"),
    [
        ("text_encoder", "layers.0.mlp"),
        ("text_encoder", "embedding"),
        ("unet", "down_blocks.0.attentions.0"),
        ("vae", "decoder.mid_block.attentions"),
        ("vae", "quant_conv"),
    ],
)
def test_weights_that_no_file_has_are_an_error_that_names_part_and_keys(
    renderer: Any, parts: Path, tmp_path: Path, part: str, mark: str
) -> None:
    message = refused(renderer, changed(parts, tmp_path / "short", part, without(mark)))
    assert f"{part}: " in message
    assert "weights are missing" in message
    assert mark in message


@pytest.mark.parametrize("family", ["sdxl", "sd3", "flux"])
def test_every_part_of_every_family_is_checked(renderer: Any, cache: Path, tmp_path: Path, family: str) -> None:
    from runner_testkit.families import ensure_family
    from safetensors import safe_open

    folder = ensure_family(cache, family)
    names = sorted(file.parent.name for file in folder.glob("*/*.safetensors"))
    assert len(names) >= 4
    for name in names:
        (file,) = (folder / name).glob("*.safetensors")
        with safe_open(file, "pt") as tensors:
            key = min(tensors.keys())
        message = refused(renderer, changed(folder, tmp_path / name, name, without(key)))
        assert f"{name}: 1 weights are missing" in message


@pytest.mark.parametrize(
    ("part", "mark", "said"),
    [
        ("text_encoder", "cond_stage_model.transformer.text_model.encoder.layers.0.mlp", "layers.0.mlp"),
        ("unet", "model.diffusion_model.input_blocks.1.1", "down_blocks.0.attentions.0"),
        ("vae", "first_stage_model.decoder.mid.attn", "decoder.mid_block.attentions.0"),
    ],
)
def test_weights_that_a_single_file_lacks_are_an_error_that_names_part_and_keys(
    renderer: Any, whole_file: Path, tmp_path: Path, part: str, mark: str, said: str
) -> None:
    folder = changed(whole_file, tmp_path / "short", ".", without(mark))
    message = refused(renderer, folder, by_names=part != "text_encoder")
    assert f"{part}: " in message
    assert said in message


def test_weights_of_another_shape_are_an_error(renderer: Any, parts: Path, tmp_path: Path) -> None:
    for part, key in (("text_encoder", "final_layer_norm.bias"), ("vae", "decoder.conv_out.bias")):
        folder = changed(
            parts,
            tmp_path / part,
            part,
            lambda tensors, key=key: {name: each[:2] if name.endswith(key) else each for name, each in tensors.items()},
        )
        assert key in refused(renderer, folder)


def test_keys_that_nothing_reads_are_a_warning_that_names_them(renderer: Any, parts: Path, tmp_path: Path) -> None:
    from dreamforge.gpu_runner.rendering.weight_check import check_weights

    assert warned(renderer, parts) == {}
    folder = changed(parts, tmp_path / "more", "unet", beside(a="mystery.weight", b="num_batches_tracked"))
    more = changed(folder, tmp_path / "still-more", "text_encoder", beside(a="mystery.bias"))
    words = warned(renderer, more)[WarningCode.KEYS_IGNORED]
    assert sorted(words) == ["text_encoder: mystery.bias", "unet: mystery.weight"]
    assert sorted(check_weights(more).ignored_keys) == sorted(words)
    assert rendered(renderer, more) == rendered(renderer, parts)


def test_keys_of_a_single_file_that_nothing_reads_are_a_warning(
    renderer: Any, whole_file: Path, tmp_path: Path
) -> None:
    names = {"a": "mystery", "b": "betas", "c": "model_ema.decay", "d": "model.diffusion_model.mystery.weight"}
    folder = changed(whole_file, tmp_path / "more", ".", beside(**names))
    words = warned(renderer, folder)[WarningCode.KEYS_IGNORED]
    assert any(word.endswith(": mystery") for word in words)
    assert any("mystery.weight" in word for word in words)
    assert len(words) == 2
    assert inspect_model(folder).size.loaded_bytes(4) == inspect_model(whole_file).size.loaded_bytes(4)


def test_weights_with_a_scale_apart_are_an_error(renderer: Any, parts: Path, whole_file: Path, tmp_path: Path) -> None:
    folder = changed(parts, tmp_path / "scaled", "unet", beside(a="conv_in.scale_weight"))
    assert "conv_in.scale_weight" in refused(renderer, folder)
    one = changed(whole_file, tmp_path / "scaled-one", ".", beside(a="scaled_fp8"))
    assert "scaled_fp8" in refused(renderer, one, by_names=False)  # the headers say so before


@pytest.mark.parametrize("layout", ["folder", "one file"])
def test_markers_of_how_a_model_was_trained_are_obeyed(
    renderer: Any, parts: Path, whole_file: Path, tmp_path: Path, layout: str
) -> None:
    source, part = (parts, "unet") if layout == "folder" else (whole_file, ".")
    marked = changed(source, tmp_path / "marked", part, beside(a="v_pred", b="ztsnr"))
    said = shutil.copytree(source, tmp_path / "said")
    configure(said, prediction_type="v_prediction", rescale_betas_zero_snr=True)
    assert rendered(renderer, marked) == rendered(renderer, said) != rendered(renderer, source)
    assert rendered(renderer, marked, sampler="euler") == rendered(renderer, said, sampler="euler")
    assert warned(renderer, marked) == {}


def test_a_marker_that_the_scheduler_cannot_obey_is_an_error(renderer: Any, parts: Path, tmp_path: Path) -> None:
    marked = changed(parts, tmp_path / "marked", "unet", beside(a="v_pred", b="ztsnr"))
    index = json.loads((marked / "model_index.json").read_text())
    (marked / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", "PNDMScheduler"]}))
    configure(marked, _class_name="PNDMScheduler", skip_prk_steps=True)
    message = refused(renderer, marked)
    assert "PNDMScheduler has no rescale_betas_zero_snr" in message


def configure(folder: Path, part: str = "scheduler/scheduler_config.json", **settings: object) -> None:
    """Change a configuration of a model."""
    path = folder / part
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_settings_that_nothing_knows_are_a_warning_that_names_them(renderer: Any, parts: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(parts, tmp_path / "settings")
    configure(folder, predicton_type="v_prediction", skip_prk_steps=True, beta_start=0.001)
    configure(folder, "unet/config.json", mystery_of_blocks=2, decay=0.9999)
    configure(folder, "model_index.json", mystery_flag=True)
    expected = ("model_index.json: mystery_flag", "predicton_type", "unet: mystery_of_blocks")
    assert tuple(sorted(warned(renderer, folder)[WarningCode.SETTINGS_IGNORED])) == expected


def test_our_own_model_loads_without_a_warning(renderer: Any) -> None:
    ours = Path(__file__).parents[3] / "models" / "forge-shapes"
    assert warned(renderer, ours) == warned(renderer, ours, sampler="euler") == {}


def test_settings_of_the_noise_that_another_sampler_does_not_know_are_a_warning(
    renderer: Any, parts: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(parts, tmp_path / "trailing")
    configure(folder, timestep_spacing="trailing", thresholding=True)
    assert warned(renderer, folder) == {}
    assert warned(renderer, folder, sampler="dpmpp_2m") == {}
    assert warned(renderer, folder, sampler="euler") == {WarningCode.SETTINGS_IGNORED: ("thresholding",)}


@pytest.mark.parametrize("family", ["stable-diffusion"])
def test_a_controlnet_with_missing_weights_is_an_error_and_unread_ones_a_warning(
    renderer: Any, cache: Path, tmp_path: Path, family: str
) -> None:
    from PIL import Image
    from runner_testkit.assets import ensure_controlnet
    from runner_testkit.families import ensure_family
    from runner_testkit.tasks import LocalControl

    from dreamforge.contracts.request.values import ControlUse
    from dreamforge.gpu_runner.protocol.render_task import InputImage, ModelFiles

    net, base = ensure_controlnet(cache, family), ensure_family(cache, family)
    Image.new("RGB", (64, 64)).save(tmp_path / "p.png")
    image = InputImage(path=str(tmp_path / "p.png"), sha256="2" * 64)

    def control(folder: Path) -> LocalControl:
        use = ControlUse(model_id=folder.name, image=image.sha256)
        return LocalControl(use, ModelFiles(path=str(folder), digest="3" * 64), image)

    more = changed(net, tmp_path / "more", ".", beside(a="mystery"))
    assert warned(renderer, base, control=control(more)) == {WarningCode.KEYS_IGNORED: ("ControlNet: mystery",)}
    short = changed(net, tmp_path / "short", ".", without("controlnet_mid_block"))
    with pytest.raises(RenderFailed, match=r"short does not load: ControlNet: 2 weights are missing") as failed:
        renderer.warnings(task_of(base, control=control(short)))
    assert failed.value.reason is FailureReason.MODEL_BROKEN


def test_names_of_earlier_releases_are_the_same_weights(renderer: Any, parts: Path, tmp_path: Path) -> None:
    """The autoencoder of Stable Diffusion 1.5 names its attention so, and its text encoder saves its positions."""
    import torch

    from dreamforge.gpu_runner.rendering.weight_check import check_weights

    earlier = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(tensors: Tensors) -> Tensors:
        names = {key: key for key in tensors}
        for now, then in earlier.items():
            names = {key: name.replace(f".{now}.", f".{then}.") for key, name in names.items()}
        assert set(names.values()) != set(tensors)
        return {names[key]: each for key, each in tensors.items()}

    renamed = changed(parts, tmp_path / "renamed", "vae", rename)
    positions = {"text_model.embeddings.position_ids": torch.arange(256)[None]}
    folder = changed(renamed, tmp_path / "old", "text_encoder", lambda tensors: tensors | positions)
    assert warned(renderer, folder) == {}
    assert check_weights(folder).ignored_keys == []
    assert rendered(renderer, folder) == rendered(renderer, parts)


def test_a_configuration_that_cannot_be_read_is_an_error_that_names_the_part(
    renderer: Any, parts: Path, tmp_path: Path
) -> None:
    for part, changes in (("vae", {"block_out_channels": 7}), ("text_encoder", {"hidden_size": "wide"})):
        folder = shutil.copytree(parts, tmp_path / part)
        configure(folder, f"{part}/config.json", **changes)
        assert f"{part}: " in refused(renderer, folder)


def test_each_part_is_read_in_the_variant_that_it_has(renderer: Any, parts: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(parts, tmp_path / "mixed")
    for part, variant in (("unet", "fp16"), ("vae", "bf16")):
        (file,) = (folder / part).glob("*.safetensors")
        save_file(load_file(file), file.with_suffix(f".{variant}.safetensors"), metadata={"format": "pt"})
        file.unlink()
    (file,) = (folder / "text_encoder").glob("*.safetensors")
    zeros = {key: torch.zeros_like(each) for key, each in load_file(file).items()}
    save_file(zeros, file.with_suffix(".non_ema.safetensors"), metadata={"format": "pt"})
    assert rendered(renderer, folder) == rendered(renderer, parts)
    assert inspect_model(folder).size.loaded_bytes(4) == inspect_model(parts).size.loaded_bytes(4)


def test_weights_in_shards_of_a_variant_are_read(renderer: Any, parts: Path, tmp_path: Path) -> None:
    import torch

    from dreamforge.gpu_runner.rendering.pipeline import read_pipeline

    folder = shutil.copytree(parts, tmp_path / "sharded")
    pipeline = read_pipeline(parts, dtype=torch.float32).pipeline
    for part, size in (("unet", "600KB"), ("text_encoder", "100KB")):
        for file in (folder / part).glob("*.safetensors"):
            file.unlink()
        module: Any = pipeline.components[part]
        module.save_pretrained(str(folder / part), variant="fp16", max_shard_size=size, safe_serialization=True)
        assert len(list((folder / part).glob("*.safetensors"))) > 1
    assert rendered(renderer, folder) == rendered(renderer, parts)
    assert inspect_model(folder).size.loaded_bytes(4) == inspect_model(parts).size.loaded_bytes(4)
