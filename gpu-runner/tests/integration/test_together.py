"""Images in one run: each as it is alone, but for the last bits, and the same bytes whatever is beside it."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from runner_testkit.tasks import LocalControl, LocalLora, render_task

from dreamforge.contracts.request.values import ControlUse, Geometry, LoraUse, Upscale
from dreamforge.gpu_runner.protocol.messages import Cancelled, Done, Failed, FromChild, StepDone
from dreamforge.gpu_runner.protocol.messages import Image as ChildImage
from dreamforge.gpu_runner.protocol.render_task import InputImage, ModelFiles, RenderTask, TaskImage
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderedImage, RenderFailed
from dreamforge.gpu_runner.worker.task_runner import TaskRunner
from dreamforge.runtime.storage.objects import sha256_of

pytestmark = pytest.mark.torch
FAMILIES = ("stable-diffusion", "stable-diffusion-2", "sdxl", "sd3", "flux")
PROMPTS = ("a red circle over the sea", "two birds", "a", "mountains at sunset")
#: Of 255. A batch differs in the last bits of floats, and tiny random models do not spread that.
LEVELS_MAX = 1


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny models are built, once."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def renderer() -> Any:
    """A renderer on the CPU. Any: its module imports torch."""
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


def tasks(cache: Path, family: str, prompts: tuple[str, ...] = PROMPTS, **changes: Any) -> list[RenderTask]:
    """A task for each prompt, with a seed of its own."""
    from runner_testkit.families import ensure_family

    folder = ensure_family(cache, family)
    shared = {"model_id": folder.name, "model_path": str(folder), "steps": 2} | changes
    return [
        render_task(**{"task_id": f"t{number}", "prompt": prompt, "seed": 10 + number} | shared)
        for number, prompt in enumerate(prompts)
    ]


def together(renderer: Any, made: list[RenderTask]) -> list[RenderedImage]:
    key = ModelKey.of_task(made[0])
    if not renderer.is_resident(key):
        renderer.load(key)
    assert renderer.renders_together(made[0])
    rendered = renderer.render_together([TaskImage(task, 0) for task in made], lambda *_: None)
    assert None not in rendered
    return list(rendered)


def alone(renderer: Any, task: RenderTask) -> RenderedImage:
    image: RenderedImage = renderer.render(task, task.seeds[0], lambda *_: None)
    return image


def pixels(image: RenderedImage) -> Any:
    """The pixels of filtered rows. Any: an array."""
    upscale = image.recipe.upscale
    height_px = upscale.height_px if upscale else image.recipe.height_px
    rows = np.frombuffer(image.scanlines, np.uint8).reshape(height_px, -1)[:, 1:]
    return np.cumsum(rows.reshape(len(rows), -1, 3).astype(np.int64), axis=1) % 256


def an_upload(folder: Path, name: str, level: int) -> InputImage:
    """One bright half."""
    picture = Image.new("RGB", (64, 64))
    picture.paste((level, 200, level), (0, 0, 32, 64))
    picture.save(folder / name)
    return InputImage(path=str(folder / name), sha256=sha256_of((folder / name).read_bytes()))


def follow(net: Path, image: InputImage) -> LocalControl:
    use = ControlUse(model_id=net.name, image=image.sha256)
    return LocalControl(use, ModelFiles(path=str(net), digest="3" * 64), image)


def ways(cache: Path, folder: Path, family: str) -> dict[str, dict[str, Any]]:
    """Requests of more than a prompt, each with all that its family can do."""
    from runner_testkit.assets import ensure_controlnet, ensure_lora, ensure_t2i_adapter

    start, mask = an_upload(folder, "start.png", 90), an_upload(folder, "mask.png", 255)
    lora = ensure_lora(cache, family)
    over: dict[str, Any] = {"init_image": start, "strength": 0.6}
    has_nets = family in ("stable-diffusion", "sdxl")
    net, adapter = (
        follow(ensure(), mask) if has_nets else None
        for ensure in (partial(ensure_controlnet, cache, family), partial(ensure_t2i_adapter, cache))
    )
    masked = over | {"mask_image": mask, "mask_fill": "noise"}
    return {
        "over": over,
        "masked": masked,
        "lora": {"loras": (LocalLora(LoraUse(model_id=lora.name), ModelFiles(path=str(lora), digest="1" * 64)),)},
        "control": {"control": net},
        "controls": masked | {"control": (net, net)},
        "adapter": over | {"control": (net, adapter)},
        "upscale": over | {"upscale": Upscale(width_px=128, height_px=128, strength=0.5)},
        "latent": {"upscale": Upscale(width_px=128, height_px=128, strength=0.5, method="latent")},
    }


def levels_apart(one: RenderedImage, other: RenderedImage) -> int:
    return int(np.abs(pixels(one) - pixels(other)).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_is_its_own_whatever_is_rendered_with_it(renderer: Any, cache: Path, family: str) -> None:
    made = tasks(cache, family)
    first = together(renderer, made)
    for task, image in zip(made, first, strict=True):
        assert levels_apart(alone(renderer, task), image) <= LEVELS_MAX
    assert len({image.scanlines for image in first}) == len(made)
    others = tasks(cache, family, ("something else", *PROMPTS[1:2], "a very long story " * 3, ""))
    assert together(renderer, others)[1].scanlines == first[1].scanlines
    copies = together(renderer, [made[2]] * 4)
    assert copies[2].scanlines == first[2].scanlines, "as a geometry is rendered again"
    assert first[2].recipe.geometry == Geometry(size=4, place=2)


@pytest.mark.parametrize(
    ("family", "way"),
    [
        *(("stable-diffusion", way) for way in ("masked", "controls", "adapter", "latent")),
        *(("sdxl", way) for way in ("control", "lora", "upscale")),
        *(("sd3", "over"), ("flux", "masked"), ("flux", "upscale")),
    ],
)
def test_so_is_one_that_starts_from_an_image_follows_one_or_has_a_second_pass(
    renderer: Any, cache: Path, tmp_path: Path, family: str, way: str
) -> None:
    values = ways(cache, tmp_path, family)[way]
    made = tasks(cache, family, PROMPTS[:2], **values)
    first = together(renderer, made)
    for task, image in zip(made, first, strict=True):
        assert levels_apart(alone(renderer, task), image) <= LEVELS_MAX
    assert first[0].scanlines != first[1].scanlines
    copies = together(renderer, [made[1]] * 2)
    assert copies[1].scanlines == first[1].scanlines, "as a geometry is rendered again"


def test_one_that_ends_in_the_middle_of_its_passes_changes_nothing_beside_it(
    renderer: Any, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled in its second pass, and black after its first: that one is rendered alone."""
    from dreamforge.gpu_runner.rendering import diffusers_renderer

    values = ways(cache, tmp_path, "stable-diffusion")["upscale"] | {"steps": 4, "together_max": 4}
    made = tasks(cache, "stable-diffusion", PROMPTS[:3], **values)
    before = together(renderer, made)
    heard: list[FromChild] = []
    worker = TaskRunner(renderer, send=heard.append, clock=lambda: 0.0)
    seconds = {size: 1 / size for size in (2, 4)}
    made = [task.model_copy(update={"batch_seconds": seconds}) for task in made]

    def is_cancelled(task_id: str) -> bool:
        return task_id == "t1" and any(isinstance(each, StepDone) and each.step > each.steps // 2 for each in heard)

    assert worker.render(made, is_cancelled) is None
    ends = {each.task_id: each.kind for each in heard if isinstance(each, Done | Cancelled | Failed)}
    assert ends == {"t0": "done", "t1": "cancelled", "t2": "done"}
    rendered = {each.task_id: each for each in heard if isinstance(each, ChildImage)}
    for place in (0, 2):
        assert rendered[f"t{place}"].recipe == before[place].recipe, "in the geometry of three"

    convert, passes = diffusers_renderer.as_bytes_of_each, []

    def loses_one(images: Any) -> Any:  # Any: tensors
        pixels = convert(images)
        if not passes:
            pixels[1] = 0
        passes.append(pixels)
        return pixels

    monkeypatch.setattr(diffusers_renderer, "as_bytes_of_each", loses_one)
    left = renderer.render_together([TaskImage(task, 0) for task in made], lambda *_: None)
    assert [image and image.scanlines for image in left] == [before[0].scanlines, None, before[2].scanlines]


@pytest.mark.parametrize("sampler", ["ddpm", "dpmpp_2m_sde", "dpmpp_sde", "euler_a", "heun", "lcm", "pndm", "unipc"])
def test_the_noise_of_every_sampler_is_of_the_images_own_seed(renderer: Any, cache: Path, sampler: str) -> None:
    made = tasks(cache, "stable-diffusion", sampler=sampler, steps=4)
    for task, image in zip(made, together(renderer, made), strict=True):
        assert levels_apart(alone(renderer, task), image) <= LEVELS_MAX


def test_prompts_with_weights_and_negative_prompts_go_together(renderer: Any, cache: Path) -> None:
    prompts = ("a (red:1.3) circle", "a [blue] circle", "(((a)))")
    made = tasks(cache, "sdxl", prompts, prompt_syntax="weighted", negative_prompt="a (bad:1.2) one")
    for task, image in zip(made, together(renderer, made), strict=True):
        assert levels_apart(alone(renderer, task), image) <= LEVELS_MAX


def test_prompts_of_another_length_are_refused_and_what_follows_is_as_before(renderer: Any, cache: Path) -> None:
    made = tasks(cache, "stable-diffusion", ("a fox", "a red fox under a paper moon, " * 12))
    before = alone(renderer, made[0]) if renderer.is_resident(ModelKey.of_task(made[0])) else None
    with pytest.raises(RenderFailed, match="not in one run"):
        together(renderer, made)
    assert before is None or alone(renderer, made[0]).scanlines == before.scanlines
