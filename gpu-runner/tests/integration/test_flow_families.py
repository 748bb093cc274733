"""The families of 2025 and later, whole and tiny: recognised from their folders, and rendering what they declare."""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from runner_testkit.tasks import changed, render_task

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.models.descriptor import FAMILY_PARAMETERS
from dreamforge.gpu_runner.protocol.render_task import InputImage, RenderTask, TaskImage
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderFailed
from dreamforge.runtime.storage.model_inspection import inspect_model

pytestmark = pytest.mark.torch
FAMILIES = (
    *("flux-kontext", "flux-2", "flux-2-klein", "qwen-image", "z-image", "chroma", "hidream", "sana", "sana-sprint"),
)
#: Their processor needs torchvision: they are rendered with one that stands for it.
EDITORS = ("qwen-image-edit", "qwen-image-edit-plus")
ROW_BYTES = 1 + 3 * 64
MEGABYTE = 10**6


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, torch_installed: None) -> Path:
    """Where the tiny models are built, once."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def renderer() -> Any:
    """A renderer on the CPU. Any: its module imports torch."""
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


@pytest.fixture(params=FAMILIES)
def task(request: pytest.FixtureRequest, cache: Path) -> RenderTask:
    """Two steps of a family's tiny model; its id is the family."""
    from runner_testkit.families import ensure_family

    folder = ensure_family(cache, request.param)
    return render_task(model_id=request.param, model_path=str(folder), steps=steps_of(request.param))


def steps_of(family: str) -> int:
    """The fewest that make an image."""
    return FAMILY_PARAMETERS[family].steps_min


def an_image(folder: Path, colour: tuple[int, int, int]) -> InputImage:
    """An uploaded image of one colour, wider than high."""
    name = "-".join(map(str, colour))
    Image.new("RGB", (96, 64), colour).save(path := folder / f"{name}.png")
    return InputImage(path=str(path), sha256=hashlib.sha256(name.encode()).hexdigest())


def rows_of(renderer: Any, task: RenderTask) -> list[bytes]:
    """Each image of a task."""
    key = ModelKey.of_task(task)
    if not renderer.is_resident(key):
        renderer.load(key)
    assert renderer.warnings(task) == ()
    return [renderer.render(task, seed, lambda step, of, preview: None).scanlines for seed in task.seeds]


def test_a_folder_is_known_by_its_class_and_read_whole(task: RenderTask) -> None:
    from runner_testkit.families import family_descriptor

    from dreamforge.gpu_runner.rendering.weight_check import check_weights
    from dreamforge.runtime.storage.descriptor_fit import fitted

    folder, family = Path(task.model.path), task.request.model_id
    facts = inspect_model(folder)
    assert (facts.kind, facts.family, facts.is_family_sure) == ("pipeline", family, True)
    assert facts.modes == FAMILY_PARAMETERS[family].modes
    assert facts.is_guidance_distilled == (family == "flux-2-klein")
    descriptor = family_descriptor(family, "0" * 64)
    assert fitted(descriptor, facts) == descriptor
    on_disk = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert on_disk - {"dreamforge.json"} == set(facts.files)
    assert sum((folder / name).stat().st_size for name in facts.files) < 5 * MEGABYTE
    report = check_weights(folder)
    assert (report.ignored_keys, report.ignored_settings) == ([], [])


def test_prompt_size_and_guidance_make_the_image(renderer: Any, task: RenderTask) -> None:
    first, second = rows_of(renderer, changed(task, images=2, width_px=128))
    assert len(first) == 64 * (1 + 3 * 128)
    assert first != second
    assert rows_of(renderer, changed(task, prompt="a dog", width_px=128)) != [first]
    guided = rows_of(renderer, changed(task, guidance_scale=7.0, width_px=128))
    assert (guided == [first]) == (task.request.model_id == "flux-2-klein")


def test_a_negative_prompt_is_obeyed_or_refused(renderer: Any, task: RenderTask) -> None:
    against = changed(task, negative_prompt="water")
    if FAMILY_PARAMETERS[task.request.model_id].negative_prompt:
        assert rows_of(renderer, against) != rows_of(renderer, task)
        return
    with pytest.raises(RenderFailed, match="takes no negative prompt") as refused:
        rows_of(renderer, against)
    assert refused.value.reason is FailureReason.INVALID_REQUEST


def test_each_reference_changes_the_image_and_a_family_that_takes_none_refuses_it(
    renderer: Any, cache: Path, task: RenderTask
) -> None:
    most = FAMILY_PARAMETERS[task.request.model_id].references_max
    values: dict[str, Any] = {"model_id": task.request.model_id, "model_path": task.model.path}
    values["steps"] = task.request.steps
    colours = ((200, 40, 40), (30, 200, 90), (40, 40, 200))
    asked = [
        render_task(**values, references=tuple(an_image(cache, colour) for colour in colours[:count]))
        for count in range(1, min(max(most, 1), 2) + 1)
    ]
    asked.append(render_task(**values, references=(an_image(cache, colours[2]),)))
    if most:
        images = [rows_of(renderer, each)[0] for each in asked]
        assert len(set(images)) == len(images)
        assert {len(rows) for rows in images} == {64 * ROW_BYTES}
        return
    with pytest.raises(RenderFailed, match="takes no reference images") as refused:
        rows_of(renderer, asked[0])
    assert refused.value.reason is FailureReason.INVALID_REQUEST


def of_area(dimensions: Any, area_px: int, ratio: float) -> Any:  # Any: functions of diffusers have no types
    """What a pipeline makes of an image, at no more than 128 x 128 pixels."""
    return dimensions(min(area_px, 128 * 128), ratio)


@pytest.mark.parametrize("family", EDITORS)
def test_an_editing_model_reads_its_images_beside_the_prompt(
    cache: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus
    from runner_testkit.families import build_family, ensure_family

    from dreamforge.gpu_runner.rendering import pipeline_cache
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    read = pipeline_cache.ReadPipeline(build_family(family))
    monkeypatch.setattr(pipeline_cache, "read_pipeline", lambda folder, *, dtype: read)
    # They read a megapixel of each image, which takes seconds on a CPU.
    for module in (pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus):
        monkeypatch.setattr(module, "calculate_dimensions", partial(of_area, module.calculate_dimensions))
    editor = DiffusersRenderer(device="cpu", dtype="auto", threads=1)
    values: dict[str, Any] = {"model_id": family, "model_path": str(ensure_family(cache, "qwen-image")), "steps": 2}
    most = FAMILY_PARAMETERS[family].references_max
    images = tuple(an_image(cache, colour) for colour in ((200, 40, 40), (30, 200, 90))[:most])
    one = render_task(**values, references=images[:1])
    (rows,) = rows_of(editor, one)
    assert len(rows) == 64 * ROW_BYTES
    other = render_task(**values, references=(an_image(cache, (9, 9, 9)),))
    assert rows_of(editor, other) != [rows]
    if most > 1:
        assert rows_of(editor, render_task(**values, references=images)) != [rows]


def test_images_are_rendered_together_and_none_depends_on_another(renderer: Any, task: RenderTask) -> None:
    if not renderer.is_resident(key := ModelKey.of_task(task)):
        renderer.load(key)
    assert renderer.renders_together(task)
    other = changed(task, prompt="a very long story of a fox " * 9, seed=7)
    if renderer.prompt_form(other) != renderer.prompt_form(task):
        assert task.request.model_id in ("qwen-image", "z-image"), "the others pad each prompt to one length"
        other = changed(task, prompt=task.request.prompt[::-1], seed=7)
    assert renderer.prompt_form(other) == renderer.prompt_form(task)
    first, copies = (
        renderer.render_together([TaskImage(beside, 0), TaskImage(task, 0)], lambda *_: None)
        for beside in (other, task)
    )
    assert first[1].scanlines == copies[1].scanlines != first[0].scanlines


@pytest.mark.parametrize("mode", ["image", "inpaint"])
def test_an_image_is_rendered_over_where_the_family_can(
    renderer: Any, task: RenderTask, mode: str, tmp_path: Path
) -> None:
    Image.new("RGB", (64, 64), (200, 40, 40)).save(tmp_path / "start.png")
    Image.new("L", (64, 64), 255).save(tmp_path / "mask.png")
    images = {"init_image": InputImage(path=str(tmp_path / "start.png"), sha256="1" * 64)}
    if mode == "inpaint":
        images["mask_image"] = InputImage(path=str(tmp_path / "mask.png"), sha256="2" * 64)
    values: dict[str, Any] = {"model_id": task.request.model_id, "model_path": task.model.path, "steps": 2}
    over = render_task(**values, **images, strength=0.5)
    if mode in FAMILY_PARAMETERS[task.request.model_id].modes:
        (rows,) = rows_of(renderer, over)
        assert len(rows) == 64 * ROW_BYTES
        return
    with pytest.raises(RenderFailed, match=r"has no (image-to-image|inpainting)") as refused:
        rows_of(renderer, over)
    assert refused.value.reason is FailureReason.INVALID_REQUEST
