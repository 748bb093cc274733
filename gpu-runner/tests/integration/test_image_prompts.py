"""Images beside the prompt: they change a picture in their steps, and leave no trace."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from runner_testkit.tasks import LocalImagePrompt

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.request.guidance_schedule import GuidanceSchedule
from dreamforge.contracts.request.values import ImagePromptUse, Upscale
from dreamforge.gpu_runner.protocol.render_task import InputImage, ModelFiles
from dreamforge.gpu_runner.rendering.renderer import RenderFailed
from dreamforge.runtime.storage.model_inspection import inspect_model

from .test_assets import a_control, a_lora, render

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def renderer() -> Any:
    """A renderer on the CPU. Any: its module imports torch."""
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


def shown(
    cache: Path, folder: Path, family: str, *, colour: str = "red", reads: str = "image", **settings: float
) -> LocalImagePrompt:
    """An IP-Adapter made for a family's tiny model, and a picture of one colour with a corner of another."""
    from runner_testkit.assets import ensure_ip_adapter, ensure_redux

    adapter = ensure_redux(cache) if family == "flux" else ensure_ip_adapter(cache, family, reads)
    picture = Image.new("RGB", (96, 64), colour)
    picture.paste("white", (30, 10, 50, 30))
    picture.save(folder / f"{colour}.png")
    image = InputImage(path=str(folder / f"{colour}.png"), sha256=f"{len(colour):064x}")
    use = ImagePromptUse.model_validate({"model_id": adapter.name, "image": image.sha256} | settings)
    return LocalImagePrompt(use, ModelFiles(path=str(adapter), digest="5" * 64), image)


@pytest.mark.parametrize(("family", "reads"), [("stable-diffusion", "image"), ("sdxl", "patches"), ("flux", "")])
def test_an_image_prompt_changes_a_picture_and_leaves_the_model_as_it_was(
    renderer: Any, cache: Path, tmp_path: Path, family: str, reads: str
) -> None:
    before = render(renderer, cache, family)
    red = shown(cache, tmp_path, family, reads=reads)
    changed = render(renderer, cache, family, image_prompts=(red,))
    other = render(renderer, cache, family, image_prompts=(shown(cache, tmp_path, family, colour="lime", reads=reads),))
    assert len({before, changed, other}) == 3
    assert render(renderer, cache, family) == before
    assert render(renderer, cache, family, image_prompts=(red,)) == changed


def test_image_prompts_add_up_each_in_its_steps(renderer: Any, cache: Path, tmp_path: Path) -> None:
    def rendered(*uses: dict[str, Any]) -> bytes:
        prompts = [shown(cache, tmp_path, "stable-diffusion", **use) for use in uses]
        return render(renderer, cache, "stable-diffusion", image_prompts=prompts)

    red, lime = {"colour": "red"}, {"colour": "lime"}
    begins, ends = {"colour": "red", "end": 0.5}, {"colour": "red", "start": 0.5}
    whole, both = rendered(red), rendered(red, lime)
    assert len({whole, both, rendered(red | {"scale": 0.5}), rendered(begins), rendered(ends)}) == 5
    assert rendered(begins, ends) == whole
    assert rendered(red, lime | {"scale": 0.0}) == whole
    assert rendered(red, lime | {"reads": "patches"}) not in (whole, both), "two adapters at once"


def test_an_image_prompt_works_in_every_mode_and_beside_the_others(renderer: Any, cache: Path, tmp_path: Path) -> None:
    family = "stable-diffusion"
    red, control = shown(cache, tmp_path, family), a_control(cache, tmp_path, family)
    start: dict[str, Any] = {"init_image": control.image, "strength": 0.5}
    guided = GuidanceSchedule(shape="constant", end=0.5)
    cases: list[dict[str, Any]] = [
        start | {"mask_image": control.image, "control": control},
        {"loras": (a_lora(cache, family),), "guidance_schedule": guided},
        {"guidance_scale": 1.0},
        {"upscale": Upscale(width_px=128, height_px=128, strength=0.5)},
    ]
    for case in cases:
        assert render(renderer, cache, family, image_prompts=(red,), **case) != render(renderer, cache, family, **case)


def test_redux_is_read_after_the_words_in_every_mode(renderer: Any, cache: Path, tmp_path: Path) -> None:
    red, lime = shown(cache, tmp_path, "flux"), shown(cache, tmp_path, "flux", colour="lime")
    facts = inspect_model(Path(red.files.path))
    assert (facts.kind, facts.family, len(facts.part_sizes)) == ("ip_adapter", "flux", 2)

    def rendered(*prompts: LocalImagePrompt, **values: Any) -> bytes:
        return render(renderer, cache, "flux", image_prompts=prompts, **values)

    nothing = shown(cache, tmp_path, "flux", scale=0)
    assert rendered(nothing) == rendered()
    assert len({rendered(), rendered(red), rendered(red, lime), rendered(red, prompt="a blue square")}) == 4
    hole = {"init_image": red.image, "mask_image": lime.image, "strength": 0.5}
    assert rendered(red, **hole) != rendered(**hole)
    with pytest.raises(RenderFailed, match="FLUX Redux acts in all steps"):
        rendered(shown(cache, tmp_path, "flux", end=0.5))


def test_an_image_prompt_of_another_base_is_refused_by_name(renderer: Any, cache: Path, tmp_path: Path) -> None:
    for family, other, why in (
        ("sdxl", "stable-diffusion", "tiny-ip-adapter-image-stable-diffusion-v1 does not fit this model"),
        ("flux-kontext", "sdxl", "FluxKontextPipeline takes no IP-Adapter"),
        ("sdxl", "flux", "StableDiffusionXLPipeline takes no FLUX Redux"),
    ):
        before = render(renderer, cache, family)
        with pytest.raises(RenderFailed, match=why) as refused:
            render(renderer, cache, family, image_prompts=(shown(cache, tmp_path, other),))
        assert refused.value.reason is FailureReason.INVALID_REQUEST
        assert render(renderer, cache, family) == before
