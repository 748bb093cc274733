"""What a run is about beside its prompts (references, image prompts) is the same for all of its images."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from runner_testkit.worker import Worker

from dreamforge.contracts.request.guidance_schedule import GuidanceSchedule
from dreamforge.contracts.request.values import Geometry, Upscale
from dreamforge.gpu_runner.protocol.messages import Image as ChildImage
from dreamforge.gpu_runner.protocol.render_task import RenderTask

from .test_flow_families import an_image, of_area
from .test_image_prompts import shown
from .test_together import LEVELS_MAX, alone, an_upload, levels_apart, tasks, together

pytestmark = pytest.mark.torch
#: Of one length, for the family that needs it.
PROMPTS = ("a red fox", "a red owl")
RED, GREEN = (200, 40, 40), (30, 200, 90)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, torch_installed: None) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def renderer() -> Any:
    """A renderer on the CPU. Any: its module imports torch."""
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


def assert_each_is_its_own(renderer: Any, made: list[RenderTask]) -> None:
    first = together(renderer, made)
    for task, image in zip(made, first, strict=True):
        assert levels_apart(alone(renderer, task), image) <= LEVELS_MAX
    assert len({image.scanlines for image in first}) == len(made)
    copies = together(renderer, [made[1]] * len(made))
    assert copies[1].scanlines == first[1].scanlines, "as a geometry is rendered again"


@pytest.mark.parametrize(
    ("family", "colours"),
    [("flux-kontext", [RED]), ("flux-2", [RED, GREEN]), ("flux-2-klein", [RED])],
)
def test_images_of_the_same_references_go_together(
    renderer: Any, cache: Path, family: str, colours: list[tuple[int, int, int]]
) -> None:
    references = tuple(an_image(cache, colour) for colour in colours)
    made = tasks(cache, family, PROMPTS, references=references)
    assert_each_is_its_own(renderer, made)
    assert together(renderer, tasks(cache, family, PROMPTS))[0].scanlines != together(renderer, made)[0].scanlines


@pytest.mark.parametrize(("family", "references"), [("flux-kontext", True), ("z-image", False)])
def test_an_image_of_a_job_is_rendered_again_in_its_geometry(
    renderer: Any, cache: Path, family: str, references: bool
) -> None:
    values: dict[str, Any] = {"references": (an_image(cache, RED),) if references else (), "together_max": 2}

    def images(**changes: Any) -> list[ChildImage]:
        worker = Worker(renderer)
        worker.run(*tasks(cache, family, PROMPTS[:1], **values | changes))
        return worker.said(ChildImage)

    before = images(images=2)
    assert [each.recipe.geometry for each in before] == [Geometry(size=2, place=place) for place in range(2)]
    again = images(seed=before[1].recipe.seed, geometry=before[1].recipe.geometry)
    assert [each.body for each in again] == [before[1].body]


@pytest.fixture
def editor(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A renderer of what edits one image, whose processor needs torchvision in a folder. Any: as `renderer`."""
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit
    from runner_testkit.families import build_family

    from dreamforge.gpu_runner.rendering import pipeline_cache
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    read = pipeline_cache.ReadPipeline(build_family("qwen-image-edit"))
    monkeypatch.setattr(pipeline_cache, "read_pipeline", lambda folder, *, dtype: read)
    # It reads a megapixel of each image, which takes seconds on a CPU.
    module = pipeline_qwenimage_edit
    monkeypatch.setattr(module, "calculate_dimensions", partial(of_area, module.calculate_dimensions))
    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


def test_an_image_is_edited_by_several_prompts_in_one_run(editor: Any, cache: Path) -> None:
    made = tasks(cache, "qwen-image", PROMPTS, references=(an_image(cache, RED),))
    assert_each_is_its_own(editor, made)
    other = tasks(cache, "qwen-image", PROMPTS, references=(an_image(cache, GREEN),))
    assert together(editor, other)[0].scanlines != together(editor, made)[0].scanlines


@pytest.mark.parametrize(
    ("family", "reads", "way"),
    [
        ("stable-diffusion", "patches", "over"),
        ("sdxl", "image", "unguided"),
        ("sdxl", "patches", "upscale"),
        ("flux", "", "masked"),
    ],
)
def test_images_of_the_same_image_prompts_go_together(
    renderer: Any, cache: Path, tmp_path: Path, family: str, reads: str, way: str
) -> None:
    start, mask = an_upload(tmp_path, "start.png", 90), an_upload(tmp_path, "mask.png", 255)
    over: dict[str, Any] = {"init_image": start, "strength": 0.6}
    values: dict[str, dict[str, Any]] = {
        "text": {},
        "over": over | {"guidance_schedule": GuidanceSchedule(shape="constant", end=0.5)},
        "masked": over | {"mask_image": mask},
        "unguided": {"guidance_scale": 1.0},
        "upscale": {"upscale": Upscale(width_px=128, height_px=128, strength=0.5)},
    }
    red = shown(cache, tmp_path, family, reads=reads)
    lime = shown(cache, tmp_path, family, colour="lime", reads=reads, **({} if family == "flux" else {"end": 0.5}))
    assert_each_is_its_own(renderer, tasks(cache, family, PROMPTS, image_prompts=(red, lime), **values[way]))
