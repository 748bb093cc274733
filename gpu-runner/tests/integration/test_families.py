"""Every family of models, whole and tiny: painting by the same code as the large ones."""

from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image
from runner_testkit.tasks import changed, render_task

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.models.descriptor import SamplerName, Tier, VramProfile
from dreamforge.contracts.request.values import Upscale
from dreamforge.gpu_runner.protocol.render_task import InputImage, RenderTask
from dreamforge.gpu_runner.rendering.renderer import ModelKey

pytestmark = pytest.mark.torch
FAMILIES = ("stable-diffusion", "stable-diffusion-2", "sdxl", "sd3", "flux")
STEPS = 2


@pytest.fixture(scope="module")
def renderer() -> Any:
    """A renderer on the CPU. Any: its module imports torch."""
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


def a_task(cache: Path, family: str, **changes: Any) -> RenderTask:
    """A task for a family's tiny model."""
    from runner_testkit.families import ensure_family

    folder = ensure_family(cache, family)
    values: dict[str, Any] = {
        "model_id": folder.name,
        "model_path": str(folder),
        "prompt": "a red circle over the sea",
        "steps": STEPS,
    }
    return render_task(**values | changes)


def render(renderer: Any, task: RenderTask) -> tuple[list[bytes], list[tuple[int, int]]]:
    """The rows of each image of a task, and every step that was told."""
    key = ModelKey.of_task(task)
    if not renderer.is_resident(key):
        renderer.load(key)
    steps: list[tuple[int, int]] = []
    painted = [renderer.render(task, seed, lambda step, of, preview: steps.append((step, of))) for seed in task.seeds]
    return [image.scanlines for image in painted], steps


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_becomes_a_picture_in_as_many_steps_as_asked(renderer: Any, cache: Path, family: str) -> None:
    (rows,), steps = render(renderer, a_task(cache, family))
    assert len(rows) == 64 * (1 + 3 * 64)
    assert steps == [(step, STEPS) for step in range(1, STEPS + 1)]
    (other,), _ = render(renderer, a_task(cache, family, prompt="a dog"))
    assert rows != other


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_is_the_same_alone_and_in_a_job_of_several(renderer: Any, cache: Path, family: str) -> None:
    batch, _ = render(renderer, a_task(cache, family, seeds=(1, 2, 3)))
    alone = [render(renderer, a_task(cache, family, seeds=(seed,)))[0][0] for seed in (3, 2, 1)]
    assert batch == alone[::-1]
    assert len(set(batch)) == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_side_that_a_latent_does_not_fill_is_refused(renderer: Any, cache: Path, family: str) -> None:
    from dreamforge.gpu_runner.rendering.renderer import RenderFailed

    with pytest.raises(RenderFailed, match="not a multiple") as refused:
        render(renderer, a_task(cache, family, width_px=72 if family in ("sd3", "flux") else 68))
    assert refused.value.reason is FailureReason.INVALID_REQUEST


def a_picture(folder: Path, name: str, mode: str, size: tuple[int, int], colour: Any) -> InputImage:
    """An uploaded picture: one half of a colour."""
    picture = Image.new(mode, size)
    picture.paste(colour, (0, 0, size[0] // 2, size[1]))
    picture.save(folder / name)
    return InputImage(path=str(folder / name), sha256="a" * 64)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_is_painted_over_in_its_share_of_the_steps(
    renderer: Any, cache: Path, tmp_path: Path, family: str
) -> None:
    start = a_picture(tmp_path, "start.png", "RGBA", (100, 40), (200, 40, 40, 255))
    task = a_task(cache, family, init_image=start, strength=0.5, steps=4, seeds=(1, 2))
    (one, two), steps = render(renderer, task)
    assert steps == [(1, 2), (2, 2)] * 2
    assert one != two
    (again,), _ = render(renderer, changed(task, seed=2, images=1))
    assert again == two


@pytest.mark.parametrize("family", FAMILIES)
def test_a_hole_in_a_picture_is_painted_by_the_prompt(renderer: Any, cache: Path, tmp_path: Path, family: str) -> None:
    start = a_picture(tmp_path, "start.png", "RGB", (64, 64), (30, 200, 90))
    mask = a_picture(tmp_path, "mask.png", "L", (64, 64), 255)
    task = a_task(cache, family, init_image=start, mask_image=mask, strength=1.0, steps=2)
    (rows,), steps = render(renderer, task)
    assert len(rows) == 64 * (1 + 3 * 64)
    assert steps[-1] == (2, 2)
    (other,), _ = render(renderer, changed(task, prompt="a dog"))
    assert rows != other


@pytest.mark.parametrize("family", FAMILIES)
def test_the_next_picture_from_a_prompt_knows_nothing_of_the_other_modes(
    renderer: Any, cache: Path, tmp_path: Path, family: str
) -> None:
    before, _ = render(renderer, a_task(cache, family))
    render(renderer, a_task(cache, family, init_image=a_picture(tmp_path, "p.png", "RGB", (64, 64), (9, 9, 9))))
    after, _ = render(renderer, a_task(cache, family))
    assert before == after


@pytest.mark.parametrize("family", FAMILIES)
def test_an_upscaled_picture_is_painted_over_at_its_new_size(renderer: Any, cache: Path, family: str) -> None:
    upscale = Upscale(width_px=128, height_px=96, strength=0.5)
    task = a_task(cache, family, steps=4, upscale=upscale)
    (rows,), steps = render(renderer, task)
    assert len(rows) == 96 * (1 + 3 * 128)
    assert steps == [(step, 6) for step in range(1, 7)]
    assert render(renderer, task)[0] == [rows]


OF_ITS_OWN: tuple[dict[str, Any], ...] = ({"seed": 9}, {"steps": 8}, {"guidance_scale": 6.0}, {"prompt": "a red wolf"})


@pytest.mark.parametrize("family", ["stable-diffusion", "sdxl", "flux"])
def test_a_second_pass_has_what_the_request_says_of_it_and_else_what_the_first_has(
    renderer: Any, cache: Path, family: str
) -> None:
    def second(**own: Any) -> tuple[list[bytes], list[tuple[int, int]]]:
        upscale = Upscale(width_px=128, height_px=96, strength=0.5, **own)
        return render(renderer, a_task(cache, family, steps=4, upscale=upscale))

    plain, _ = second()
    # FLUX takes no sampler but its own.
    samplers = () if family == "flux" else ({"sampler": "euler_a"},)
    others = [second(**own) for own in (*OF_ITS_OWN, *samplers)]
    assert len({rows[0] for rows in (plain, *(rows for rows, _ in others))}) == len(others) + 1
    assert others[1][1][-1] == (8, 8), "four of four, and half of eight"
    assert second()[0] == plain


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"strength": 0.1}, "leaves no step"),
        ({"init_image": InputImage(path="/nowhere", sha256="a" * 64)}, "not an image"),
        ({"init_image": None, "mask": True}, "needs the image"),
        ({"upscale": Upscale(width_px=130, height_px=128, strength=0.5)}, "upscale width 130"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(
    renderer: Any, cache: Path, tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    from dreamforge.gpu_runner.rendering.renderer import RenderFailed

    start = a_picture(tmp_path, "p.png", "L", (64, 64), 255)
    request = {"init_image": start} | changes
    if request.pop("mask", False):
        request["mask_image"] = start
    with pytest.raises(RenderFailed, match=why) as refused:
        render(renderer, a_task(cache, "stable-diffusion", **request))
    assert refused.value.reason is FailureReason.INVALID_REQUEST


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "stable-diffusion-2"])
@pytest.mark.parametrize("name", get_args(SamplerName))
def test_every_sampler_paints_or_says_that_it_does_not_fit(
    renderer: Any, cache: Path, family: str, name: SamplerName
) -> None:
    from dreamforge.gpu_runner.rendering.renderer import RenderFailed

    fits = name.startswith("flow") == (family in ("sd3", "flux")) and (family, name) != ("flux", "flow_heun")
    task = a_task(cache, family, sampler=name, steps=3)
    if not fits:
        with pytest.raises(RenderFailed, match=name) as refused:
            render(renderer, task)
        assert refused.value.reason is FailureReason.INVALID_REQUEST
        return
    first, steps = render(renderer, task)
    assert steps[-1][0] == steps[-1][1] >= 3
    assert render(renderer, task)[0] == first


def a_tier(**settings: Any) -> Tier:
    """A tier of these settings."""
    vram = VramProfile(resident_bytes=1, denoise_bytes_per_latent=1, decode_bytes_per_px=1)
    return Tier(name="lean", vram=vram, **settings)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tier_is_how_the_model_is_held_and_none_is_the_runners_own(renderer: Any, cache: Path, family: str) -> None:
    plain, _ = render(renderer, a_task(cache, family))
    assert renderer.is_resident(ModelKey.of_task(a_task(cache, family, tier=a_tier(dtype="float32", offload="model"))))
    half = a_task(cache, family, tier=a_tier(dtype="bfloat16"))
    assert not renderer.is_resident(ModelKey.of_task(half))
    assert render(renderer, half)[0] != plain
    assert not renderer.is_resident(ModelKey.of_task(a_task(cache, family)))
    assert renderer.render(half, 1, lambda step, of, preview: None).recipe.dtype == "bfloat16"
    assert render(renderer, a_task(cache, family))[0] == plain


def test_tiles_join_into_a_picture_of_the_same_size(renderer: Any, cache: Path) -> None:
    task = a_task(cache, "sdxl", width_px=128, height_px=128)
    tiled = task.model_copy(update={"tier": a_tier(vae_tiling=True)})
    (whole,), _ = render(renderer, task)
    (joined,), _ = render(renderer, tiled)
    assert len(whole) == len(joined)
    assert whole != joined
    assert render(renderer, task)[0] == [whole]
