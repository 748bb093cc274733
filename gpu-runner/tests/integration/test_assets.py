"""LoRAs and ControlNets over tiny models of each family: laid, lifted, and refused where they do not fit."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from runner_testkit.tasks import LocalControl, LocalLora, LocalVae, render_task

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.request.values import ControlUse, LoraUse, Upscale
from dreamforge.gpu_runner.protocol.render_task import InputImage, ModelFiles
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderFailed
from dreamforge.runtime.storage.model_inspection import inspect_model

pytestmark = pytest.mark.torch
FAMILIES = ("stable-diffusion", "sdxl", "sd3", "flux")
#: Those that a ControlNet of diffusers' first kind is for.
NETS = ("stable-diffusion", "sdxl")


@pytest.fixture(scope="module")
def renderer() -> Any:
    """A renderer on the CPU. Any: its module imports torch."""
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


def a_lora(cache: Path, family: str, weight: float = 1.0) -> LocalLora:
    """A LoRA made for a family's tiny model."""
    from runner_testkit.assets import ensure_lora

    folder = ensure_lora(cache, family)
    return LocalLora(LoraUse(model_id=folder.name, weight=weight), ModelFiles(path=str(folder), digest="1" * 64))


def render(renderer: Any, cache: Path, family: str, **changes: Any) -> bytes:
    """The rows of one picture."""
    from runner_testkit.families import ensure_family

    folder = ensure_family(cache, family)
    values: dict[str, Any] = {"model_id": folder.name, "model_path": str(folder), "steps": 2}
    task = render_task(**values | changes)
    key = ModelKey.of_task(task)
    if not renderer.is_resident(key):
        renderer.load(key)
    rows: bytes = renderer.render(task, 1, lambda step, of, preview: None).scanlines
    return rows


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_changes_a_picture_and_leaves_no_trace_in_the_next(renderer: Any, cache: Path, family: str) -> None:
    before = render(renderer, cache, family)
    whole = render(renderer, cache, family, loras=(a_lora(cache, family),))
    weak = render(renderer, cache, family, loras=(a_lora(cache, family, 0.5),))
    assert len({before, whole, weak}) == 3
    assert render(renderer, cache, family, loras=(a_lora(cache, family),)) == whole
    assert render(renderer, cache, family) == before


@pytest.mark.parametrize("family", ["stable-diffusion", "sdxl", "flux"])
def test_a_lora_acts_on_the_text_encoders_by_a_weight_of_its_own(renderer: Any, cache: Path, family: str) -> None:
    from runner_testkit.assets import ensure_whole_lora

    folder = ensure_whole_lora(cache, family)

    def with_weights(weight: float, text_weight: float | None) -> bytes:
        use = LoraUse(model_id=folder.name, weight=weight, text_weight=text_weight)
        return render(renderer, cache, family, loras=(LocalLora(use, ModelFiles(path=str(folder), digest="1" * 64)),))

    plain = render(renderer, cache, family)
    assert with_weights(0, 0) == plain
    assert with_weights(0.7, 0.7) == with_weights(0.7, None)
    assert len({plain, with_weights(0.7, None), with_weights(0.7, 0), with_weights(0, 0.7)}) == 4
    assert with_weights(0.7, 0) == render(renderer, cache, family, loras=(a_lora(cache, family, 0.7),))
    assert render(renderer, cache, family) == plain


def test_several_loras_add_up(renderer: Any, cache: Path) -> None:
    half = a_lora(cache, "sdxl", 0.5)
    assert render(renderer, cache, "sdxl", loras=(half, half)) != render(renderer, cache, "sdxl", loras=(half,))


@pytest.mark.parametrize(
    ("family", "other"), [("sdxl", "stable-diffusion"), ("stable-diffusion", "flux"), ("sd3", "sdxl")]
)
def test_a_lora_of_another_base_is_refused_by_name_and_leaves_no_trace(
    renderer: Any, cache: Path, family: str, other: str
) -> None:
    before = render(renderer, cache, family)
    with pytest.raises(RenderFailed, match=f"tiny-lora-{other}-v1 does not fit tiny-") as refused:
        render(renderer, cache, family, loras=(a_lora(cache, family), a_lora(cache, other)))
    assert refused.value.reason is FailureReason.INVALID_REQUEST
    assert render(renderer, cache, family) == before


def test_a_lora_without_a_file_says_so_and_is_not_tried_again(renderer: Any, cache: Path, tmp_path: Path) -> None:
    nothing = LocalLora(LoraUse(model_id="nothing"), ModelFiles(path=str(tmp_path), digest="1" * 64))
    with pytest.raises(RenderFailed, match=r"nothing does not load: .* has no safetensors file") as missing:
        render(renderer, cache, "sdxl", loras=(nothing,))
    assert missing.value.reason is FailureReason.MODEL_BROKEN


def a_vae(folder: Path) -> LocalVae:
    return LocalVae(folder.name, ModelFiles(path=str(folder), digest="4" * 64))


@pytest.mark.parametrize("family", ["stable-diffusion", "sdxl", "flux"])
def test_another_vae_decodes_and_leaves_no_trace_in_the_next(renderer: Any, cache: Path, family: str) -> None:
    from runner_testkit.assets import ensure_vae
    from runner_testkit.families import ensure_family

    before, other = render(renderer, cache, family), ensure_vae(cache, family)
    changed = render(renderer, cache, family, vae=a_vae(other))
    assert changed != before
    assert render(renderer, cache, family) == before
    assert render(renderer, cache, family, vae=a_vae(other)) == changed
    assert render(renderer, cache, family, vae=a_vae(ensure_family(cache, family) / "vae")) == before, "its own"
    upscaled = {"upscale": Upscale(width_px=128, height_px=128, strength=0.5), "steps": 4}
    assert render(renderer, cache, family, vae=a_vae(other), **upscaled) != render(renderer, cache, family, **upscaled)


@pytest.mark.parametrize("family", ["sdxl", "flux"])
def test_a_distilled_autoencoder_decodes_where_a_request_names_it(renderer: Any, cache: Path, family: str) -> None:
    from runner_testkit.assets import ensure_tiny_autoencoder

    folder = ensure_tiny_autoencoder(cache, family)
    facts = inspect_model(folder)
    assert (facts.kind, facts.family) == ("vae", None), "its family is asked for"
    before = render(renderer, cache, family)
    first, again = (render(renderer, cache, family, vae=a_vae(folder)) for _ in range(2))
    assert first == again != before
    assert render(renderer, cache, family) == before


def test_an_autoencoder_of_other_latents_is_refused(renderer: Any, cache: Path) -> None:
    from runner_testkit.assets import ensure_tiny_autoencoder

    why = "latent_channels 16 where an AutoencoderTiny needs 4"
    with pytest.raises(RenderFailed, match=why):
        render(renderer, cache, "sdxl", vae=a_vae(ensure_tiny_autoencoder(cache, "flux")))


@pytest.mark.parametrize("family", ["stable-diffusion", "flux"])
def test_a_vae_in_one_file_is_read_with_the_configuration_of_the_model(
    renderer: Any, cache: Path, tmp_path: Path, family: str
) -> None:
    import diffusers
    from runner_testkit.assets import ensure_vae

    from .original_layout import save_vae_as_one_file

    vae: Any = diffusers.AutoencoderKL.from_pretrained(str(ensure_vae(cache, family)))  # Any: it has no types
    save_vae_as_one_file(vae, tmp_path / "soft.safetensors")
    assert inspect_model(tmp_path / "soft.safetensors").kind == "vae"
    in_folder = render(renderer, cache, family, vae=a_vae(ensure_vae(cache, family)))
    assert render(renderer, cache, family, vae=a_vae(tmp_path)) == in_folder


def test_a_vae_of_other_latents_is_refused_with_the_numbers(renderer: Any, cache: Path) -> None:
    from runner_testkit.assets import ensure_vae

    why = r"tiny-vae-flux-v1 does not fit tiny-.*: latent_channels 16 where the model has 4, scaling_factor 1\.5305"
    with pytest.raises(RenderFailed, match=why) as refused:
        render(renderer, cache, "sdxl", vae=a_vae(ensure_vae(cache, "flux")))
    assert refused.value.reason is FailureReason.INVALID_REQUEST


def a_control(
    cache: Path, folder: Path, family: str, *, level: int = 255, net: Path | None = None, **settings: float
) -> LocalControl:
    """A ControlNet made for a family's tiny model, or another network, and a picture with one bright half."""
    from runner_testkit.assets import ensure_controlnet

    net = net or ensure_controlnet(cache, family)
    picture = Image.new("RGB", (96, 64))
    picture.paste((level,) * 3, (0, 0, 48, 64))
    picture.save(folder / f"{level}.png")
    image = InputImage(path=str(folder / f"{level}.png"), sha256=f"{level:064x}")
    use = ControlUse.model_validate({"model_id": net.name, "image": image.sha256} | settings)
    return LocalControl(use, ModelFiles(path=str(net), digest="3" * 64), image)


@pytest.mark.parametrize("family", NETS)
def test_a_controlnet_holds_the_picture_and_leaves_no_trace_in_the_next(
    renderer: Any, cache: Path, tmp_path: Path, family: str
) -> None:
    before = render(renderer, cache, family)
    bright = render(renderer, cache, family, control=a_control(cache, tmp_path, family))
    dim = render(renderer, cache, family, control=a_control(cache, tmp_path, family, level=60))
    weak = render(renderer, cache, family, control=a_control(cache, tmp_path, family, scale=0.3))
    assert len({before, bright, dim, weak}) == 4
    assert render(renderer, cache, family, control=a_control(cache, tmp_path, family)) == bright
    assert render(renderer, cache, family) == before


@pytest.mark.parametrize("family", NETS)
def test_a_controlnet_works_in_every_mode_and_with_a_lora(
    renderer: Any, cache: Path, tmp_path: Path, family: str
) -> None:
    control = a_control(cache, tmp_path, family)
    start: dict[str, Any] = {"init_image": control.image, "strength": 0.5, "steps": 4}
    cases: list[dict[str, Any]] = [
        start,
        start | {"control": control},
        start | {"control": control, "mask_image": control.image},
        start | {"control": control, "loras": (a_lora(cache, family),)},
        start | {"control": (control, a_control(cache, tmp_path, family, level=60))},
        start | {"control": (control, a_control(cache, tmp_path, family, level=60)), "mask_image": control.image},
    ]
    assert len({render(renderer, cache, family, **case) for case in cases}) == len(cases)


@pytest.mark.parametrize("family", NETS)
def test_controlnets_add_up_each_in_its_steps(renderer: Any, cache: Path, tmp_path: Path, family: str) -> None:
    def rendered(*uses: dict[str, float]) -> bytes:
        return render(renderer, cache, family, control=[a_control(cache, tmp_path, family, **use) for use in uses])  # type: ignore[arg-type]  # a level is whole

    bright, dim = {"level": 255}, {"level": 60}
    begins, ends = {"level": 255, "end": 0.5}, {"level": 255, "start": 0.5}
    alone, both = rendered(bright), rendered(bright, dim)
    assert len({render(renderer, cache, family), alone, both, rendered(dim), rendered(begins), rendered(ends)}) == 6
    assert rendered(dim, bright) == both
    assert rendered(bright, dim | {"scale": 0.0}) == alone
    assert rendered(begins, ends) == alone


@pytest.mark.parametrize("family", ["stable-diffusion", "sdxl-three-levels"])
def test_a_t2i_adapter_is_used_as_a_controlnet_and_beside_one(
    renderer: Any, cache: Path, tmp_path: Path, family: str
) -> None:
    from runner_testkit.assets import ensure_t2i_adapter

    net = ensure_t2i_adapter(cache, family)
    assert inspect_model(net).kind == "controlnet"

    def adapter(**settings: float) -> LocalControl:
        return a_control(cache, tmp_path, family, net=net, **settings)  # type: ignore[arg-type]  # a level is whole

    def rendered(*uses: LocalControl, **values: Any) -> bytes:
        return render(renderer, cache, family, control=uses, **values)

    before, whole = rendered(), rendered(adapter())
    begins, ends, beside = adapter(end=0.5), adapter(start=0.5), a_control(cache, tmp_path, family)
    both = rendered(adapter(), beside)
    assert len({before, whole, rendered(adapter(level=60)), rendered(begins), rendered(ends), both}) == 6
    assert rendered(begins, ends) == whole
    assert rendered(beside, adapter()) == both
    assert rendered(beside, adapter(scale=0.0)) == rendered(beside)
    assert rendered() == before
    image = {"init_image": beside.image, "mask_image": beside.image, "width_px": 72}
    assert rendered(adapter(), **image) != rendered(**image), "in a hole, at a size that halves to odd numbers"


@pytest.mark.parametrize(
    ("family", "other", "why"),
    [
        ("flux", "stable-diffusion", "another kind of net"),
        ("sdxl-three-levels", "stable-diffusion", "adapter_type"),
        ("stable-diffusion", "sdxl-three-levels", "adapter_type"),
    ],
)
def test_a_t2i_adapter_of_another_base_is_refused_by_name(
    renderer: Any, cache: Path, tmp_path: Path, family: str, other: str, why: str
) -> None:
    from runner_testkit.assets import ensure_t2i_adapter

    net = ensure_t2i_adapter(cache, other)
    with pytest.raises(RenderFailed, match=rf"T2I-Adapter {net.name} does not fit tiny-.*: .*{why}") as refused:
        render(renderer, cache, family, control=a_control(cache, tmp_path, other, net=net))
    assert refused.value.reason is FailureReason.INVALID_REQUEST


def test_an_upscaled_picture_is_held_in_its_first_pass(renderer: Any, cache: Path, tmp_path: Path) -> None:
    upscale = Upscale(width_px=128, height_px=128, strength=0.5)
    control = a_control(cache, tmp_path, "sdxl")
    rows = render(renderer, cache, "sdxl", control=control, upscale=upscale, steps=4)
    assert len(rows) == 128 * (1 + 3 * 128)


@pytest.mark.parametrize(
    ("family", "other"), [("sdxl", "stable-diffusion"), ("stable-diffusion", "sdxl"), ("flux", "sdxl")]
)
def test_a_controlnet_of_another_base_is_refused_by_name(
    renderer: Any, cache: Path, tmp_path: Path, family: str, other: str
) -> None:
    with pytest.raises(RenderFailed, match=f"tiny-controlnet-{other}-v1 does not fit tiny-") as refused:
        render(renderer, cache, family, control=a_control(cache, tmp_path, other))
    assert refused.value.reason is FailureReason.INVALID_REQUEST


def test_a_controlnet_that_is_not_there_is_missing_until_it_is(renderer: Any, cache: Path, tmp_path: Path) -> None:
    files = ModelFiles(path=str(tmp_path / "gone"), digest="3" * 64)
    there = a_control(cache, tmp_path, "sdxl")
    gone = replace(there, files=files)
    with pytest.raises(RenderFailed, match=r"no config\.json") as missing:
        render(renderer, cache, "sdxl", control=gone)
    assert missing.value.reason is FailureReason.MODEL_MISSING
    shutil.copytree(there.files.path, files.path)
    assert render(renderer, cache, "sdxl", control=gone) == render(renderer, cache, "sdxl", control=there)
