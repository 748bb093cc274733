"""LoHa, LoKr, DoRA and Tucker-decomposed LoCon change layers by what their formulas say, and leave no trace."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runner_testkit.tasks import LocalLora, render_task

from dreamforge.contracts.request.values import LoraUse
from dreamforge.gpu_runner.protocol.render_task import ModelFiles
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderFailed

pytestmark = pytest.mark.torch
RANK, ALPHA, WEIGHT = 4, 2.0, 0.7
NUMBERS = np.random.default_rng(20_260_106)
#: A linear layer and a convolution of SDXL, by their names here and in files.
LINEAR = (
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_k",
    "lora_unet_middle_block_1_transformer_blocks_0_attn2_to_k",
)
CONVOLUTION = ("down_blocks.0.resnets.0.conv1", "lora_unet_input_blocks_1_0_in_layers_2")
Array = np.ndarray[Any, Any]


def some(*shape: int) -> Array:
    return NUMBERS.normal(0, 0.3, shape).astype(np.float32)


@pytest.fixture(scope="module")
def pipeline() -> Any:
    """A tiny SDXL. Any: its class has no types."""
    from runner_testkit.families import build_family

    return build_family("sdxl")


def locon(shape: tuple[int, ...]) -> tuple[dict[str, Array], Array]:
    """Tensors by their ends, and what they add to a weight of this shape, by plain arithmetic."""
    up, down = some(shape[0], RANK), some(RANK, *shape[1:])
    tensors = {"lora_up.weight": up.reshape(*up.shape, *[1] * (len(shape) - 2)), "lora_down.weight": down}
    return tensors, np.tensordot(up, down, axes=1) * ALPHA / RANK


def tucker(shape: tuple[int, ...]) -> tuple[dict[str, Array], Array]:
    up, core, down = some(shape[0], RANK), some(RANK, RANK, *shape[2:]), some(RANK, shape[1])
    tensors = {
        "lora_up.weight": up[:, :, None, None],
        "lora_mid.weight": core,
        "lora_down.weight": down[:, :, None, None],
    }
    # As three convolutions, one after the other: each output reads each input through the core.
    added = sum(
        up[:, out, None, None, None] * core[out, into] * down[into][None, :, None, None]
        for out in range(RANK)
        for into in range(RANK)
    )
    return tensors, np.asarray(added) * ALPHA / RANK


def loha(shape: tuple[int, ...]) -> tuple[dict[str, Array], Array]:
    inputs = int(np.prod(shape[1:]))
    sides = [(some(shape[0], RANK), some(RANK, inputs)) for _ in range(2)]
    (a1, b1), (a2, b2) = sides
    tensors = {"hada_w1_a": a1, "hada_w1_b": b1, "hada_w2_a": a2, "hada_w2_b": b2}
    return tensors, (np.dot(a1, b1) * np.dot(a2, b2)).reshape(shape) * ALPHA / RANK


def lokr(shape: tuple[int, ...]) -> tuple[dict[str, Array], Array]:
    """A whole first factor, a second one of a low rank."""
    first, left = some(2, 4), some(shape[0] // 2, RANK)
    right = some(RANK, shape[1] // 4 * int(np.prod(shape[2:])))
    second = np.dot(left, right).reshape(shape[0] // 2, shape[1] // 4, *shape[2:])
    added = np.zeros(shape, np.float32)
    for out in range(shape[0]):
        for into in range(shape[1]):
            row, column = divmod(out, second.shape[0]), divmod(into, second.shape[1])
            added[out, into] = first[row[0], column[0]] * second[row[1], column[1]]
    return {"lokr_w1": first, "lokr_w2_a": left, "lokr_w2_b": right}, added * ALPHA / RANK


def whole_lokr(shape: tuple[int, ...]) -> tuple[dict[str, Array], Array]:
    """Both factors whole: there is no rank, and alpha says nothing."""
    first, second = some(2, 4), some(shape[0] // 2, shape[1] // 4, *shape[2:])
    return {"lokr_w1": first, "lokr_w2": second}, np.kron(first.reshape(2, 4, *[1] * (len(shape) - 2)), second)


def hook_of(pipeline: Any, tensors: dict[str, Array], weight: float = WEIGHT) -> Any:  # Any: a class beside torch
    """The changes of a file, laid over a pipeline."""
    import torch

    from dreamforge.gpu_runner.rendering.changed_layers import ChangedLayers

    laid = ChangedLayers()
    laid.add(pipeline, {name: torch.from_numpy(np.array(each)) for name, each in tensors.items()}, lambda part: weight)
    return laid


def answers(layer: Any, weight: Array | None = None) -> Array:  # Any: torch's class
    """What a layer makes of fixed inputs; with another weight than its own."""
    import torch

    given = torch.randn(2, 64, 8, 8, generator=torch.Generator().manual_seed(5))
    is_linear = isinstance(layer, torch.nn.Linear)
    given = given[:, 0, :, 0] @ torch.ones(8, layer.in_features) if is_linear else given[:, : layer.in_channels]
    given = given + torch.arange(given.shape[-1]) * 0.01
    with torch.no_grad():
        if weight is None:
            return np.asarray(layer(given))
        other = torch.from_numpy(weight).float()
        if is_linear:
            return np.asarray(torch.nn.functional.linear(given, other, layer.bias))
        return np.asarray(torch.nn.functional.conv2d(given, other, layer.bias, layer.stride, layer.padding))


CASES = [
    *((make, place) for make in (loha, lokr, whole_lokr) for place in (LINEAR, CONVOLUTION)),
    (tucker, CONVOLUTION),
]


@pytest.mark.parametrize(
    ("make", "place"), CASES, ids=lambda each: each[0][-5:] if isinstance(each, tuple) else each.__name__
)
def test_a_layer_answers_as_its_changed_weight_would(pipeline: Any, make: Any, place: tuple[str, str]) -> None:
    layer = pipeline.unet.get_submodule(place[0])
    own, before = layer.weight.detach().numpy().copy(), answers(layer)
    parts, added = make(own.shape)
    laid = hook_of(pipeline, {f"{place[1]}.{end}": each for end, each in (parts | {"alpha": np.array(ALPHA)}).items()})
    np.testing.assert_allclose(answers(layer), answers(layer, own + WEIGHT * added), rtol=1e-4, atol=1e-4)
    assert not np.allclose(answers(layer), before, atol=1e-2)
    laid.lift()
    assert np.array_equal(answers(layer), before)
    assert np.array_equal(layer.weight.detach().numpy(), own)


def dora(own: Array, added: Array, along: int) -> tuple[Array, Array]:
    """Magnitudes, and the weight whose rows or columns have them as their lengths."""
    magnitudes = np.abs(some(own.shape[along])) + 0.5
    changed = np.moveaxis(own + added, along, 0)
    lengths = np.sqrt((changed.reshape(len(changed), -1) ** 2).sum(axis=1))
    scaled = changed * (magnitudes / lengths).reshape(-1, *[1] * (own.ndim - 1))
    shape = [1] * own.ndim
    shape[along] = -1
    return magnitudes.reshape(shape), np.moveaxis(scaled, 0, along)


@pytest.mark.parametrize("place", [LINEAR, CONVOLUTION], ids=["linear", "convolution"])
@pytest.mark.parametrize("along", [0, 1], ids=["rows", "columns"])
@pytest.mark.parametrize("make", [locon, loha])
def test_dora_gives_the_rows_or_columns_of_a_changed_weight_their_lengths(
    pipeline: Any, make: Any, along: int, place: tuple[str, str]
) -> None:
    layer = pipeline.unet.get_submodule(place[0])
    own, before = layer.weight.detach().numpy().copy(), answers(layer)
    parts, added = make(own.shape)
    magnitudes, changed = dora(own, added, along)
    parts |= {"alpha": np.array(ALPHA), "dora_scale": magnitudes}
    tensors = {f"{place[1]}.{end}": each for end, each in parts.items()}
    # Between the model's own weight and the trained one, by the weight of the request.
    for weight in (1.0, WEIGHT):
        laid = hook_of(pipeline, tensors, weight)
        expected = answers(layer, own + weight * (changed - own))
        np.testing.assert_allclose(answers(layer), expected, rtol=1e-4, atol=2e-4)
        laid.lift()
    assert np.array_equal(answers(layer), before)


def test_changes_of_one_layer_are_each_relative_to_the_weight_of_the_model(pipeline: Any) -> None:
    import torch

    from dreamforge.gpu_runner.rendering.changed_layers import ChangedLayers

    layer = pipeline.unet.get_submodule(LINEAR[0])
    own = layer.weight.detach().numpy().copy()
    (first, added), (second, low) = loha(own.shape), locon(own.shape)
    magnitudes, changed = dora(own, low, 0)
    files = [first | {"alpha": np.array(ALPHA)}, second | {"alpha": np.array(ALPHA), "dora_scale": magnitudes}]
    for order in (files, files[::-1]):
        laid = ChangedLayers()
        for parts in order:
            tensors = {f"{LINEAR[1]}.{end}": torch.from_numpy(np.array(each)) for end, each in parts.items()}
            laid.add(pipeline, tensors, lambda part: WEIGHT)
        expected = answers(layer, own + WEIGHT * (added + changed - own))
        np.testing.assert_allclose(answers(layer), expected, rtol=1e-4, atol=2e-4)
        laid.lift()


def test_every_layer_of_sdxl_has_the_name_of_the_original_code(pipeline: Any) -> None:
    """As diffusers reads them back, with weights that say whose they are."""
    import torch
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    from dreamforge.gpu_runner.rendering.sgm_names import sgm_names

    linear = torch.nn.Linear | torch.nn.Conv2d
    layers = [name for name, each in pipeline.unet.named_modules() if isinstance(each, linear)]
    original = sgm_names(layers, pipeline.unet.config.layers_per_block)
    assert original.keys() == set(layers)
    numbers = {
        f"model.diffusion_model.{other}.{end}": torch.tensor(layers.index(name))
        for name, other in original.items()
        for end in ("weight", "bias")
    }
    read: Any = convert_ldm_unet_checkpoint(numbers, dict(pipeline.unet.config))  # type: ignore[no-untyped-call]
    found = {key.removesuffix(".weight"): layers[int(each)] for key, each in read.items() if key.endswith(".weight")}
    assert found == {name: name for name in layers}


@pytest.fixture(scope="module")
def renderer() -> Any:
    """A renderer on the CPU. Any: its module imports torch."""
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


def render(renderer: Any, folder: Path, *loras: LocalLora) -> bytes:
    task = render_task(model_id=folder.name, model_path=str(folder), steps=1, loras=loras)
    key = ModelKey.of_task(task)
    if not renderer.is_resident(key):
        renderer.load(key)
    rows: bytes = renderer.render(task, 1, lambda step, of, preview=None: None).scanlines
    return rows


def a_file(folder: Path, name: str, parts: dict[str, Array], layer: str, **use: float) -> LocalLora:
    from safetensors.numpy import save_file

    save_file(
        {f"{layer}.{end}": np.ascontiguousarray(each) for end, each in parts.items()}, folder / f"{name}.safetensors"
    )
    files = ModelFiles(path=str(folder / f"{name}.safetensors"), digest="1" * 64)
    return LocalLora(LoraUse.model_validate({"model_id": name} | use), files)


def test_loras_of_several_formats_act_in_one_image_and_leave_no_trace(
    renderer: Any, cache: Path, tmp_path: Path, pipeline: Any
) -> None:
    from runner_testkit.assets import ensure_lora
    from runner_testkit.families import ensure_family

    folder, plain = ensure_family(cache, "sdxl"), ensure_lora(cache, "sdxl")
    text = "lora_te1_text_model_encoder_layers_0_mlp_fc1"
    text_shape = tuple(pipeline.text_encoder.get_submodule("encoder.layers.0.mlp.fc1").weight.shape)
    shape = tuple(pipeline.unet.get_submodule(LINEAR[0]).weight.shape)
    low = LocalLora(LoraUse(model_id=plain.name), ModelFiles(path=str(plain), digest="1" * 64))
    one = a_file(tmp_path, "one", loha(shape)[0], LINEAR[1])
    two = a_file(tmp_path, "two", locon(shape)[0] | {"dora_scale": np.full((shape[0], 1), 2, np.float32)}, LINEAR[1])
    three = a_file(tmp_path, "three", whole_lokr(text_shape)[0], text, weight=1, text_weight=0.5)
    before = render(renderer, folder)
    cases = [(low,), (three,), (low, one, two, three)]
    assert len({before, *(render(renderer, folder, *case) for case in cases)}) == len(cases) + 1
    silent = LocalLora(LoraUse(model_id="three", weight=1, text_weight=0), three.files)
    assert render(renderer, folder, silent) == before
    other = a_file(tmp_path, "other", loha((shape[0], shape[1] * 2))[0], LINEAR[1])
    nowhere = a_file(tmp_path, "nowhere", loha(shape)[0], "lora_unet_input_blocks_99_1_proj_in")
    for misfit, why in (
        (other, "to_k does not fit its layer of shape"),
        (nowhere, "no layer for 4 of its keys: lora_un"),
    ):
        with pytest.raises(RenderFailed, match=why):
            render(renderer, folder, low, misfit)
    assert render(renderer, folder) == before
