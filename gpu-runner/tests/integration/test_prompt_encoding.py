"""How a prompt is encoded: CLIP skip and weights, with real tiny pipelines of the families that have them."""

from pathlib import Path
from typing import Any

import pytest
from runner_testkit.tasks import render_task

from dreamforge.contracts.events import FailureReason, WarningCode
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderedImage, RenderFailed

pytestmark = pytest.mark.torch
FAMILIES = ("stable-diffusion", "sdxl")


@pytest.fixture(scope="module")
def renderer(torch_installed: None) -> Any:
    """A renderer on the CPU. Any: its module imports torch."""
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, torch_installed: None) -> dict[str, Path]:
    """Tiny pipelines by family, those of two encoders with three layers each: one more than the others have."""
    from runner_testkit.families import build_family

    found = {}
    for family in (*FAMILIES, "flux"):
        pipeline: Any = build_family(family)  # Any: its parts are diffusers' own
        if family == "sdxl":
            for name in ("text_encoder", "text_encoder_2"):
                kind, configuration = type(pipeline.components[name]), pipeline.components[name].config
                configuration.num_hidden_layers = 3
                pipeline.register_modules(**{name: kind(configuration).eval()})
        found[family] = tmp_path_factory.mktemp(family)
        pipeline.save_pretrained(str(found[family]), safe_serialization=True)
    return found


def task_of(folders: dict[str, Path], family: str, **changes: Any) -> RenderTask:
    values = {"model_id": family, "model_path": str(folders[family]), "prompt": "a red circle", "steps": 2}
    return render_task(**values | changes)


def render(renderer: Any, task: RenderTask) -> RenderedImage:
    key = ModelKey.of_task(task)
    if not renderer.is_resident(key):
        renderer.load(key)
    image: RenderedImage = renderer.render(task, 1, lambda *_: None)
    return image


@pytest.mark.parametrize("family", FAMILIES)
def test_clip_skip_changes_the_image_and_is_in_its_recipe(renderer: Any, folders: dict[str, Path], family: str) -> None:
    plain = render(renderer, task_of(folders, family))
    skipped = render(renderer, task_of(folders, family, clip_skip=1))
    assert skipped.scanlines != plain.scanlines
    assert skipped.recipe.model_dump()["clip_skip"] == 1
    assert "clip_skip" not in plain.recipe.model_dump()
    assert render(renderer, task_of(folders, family, clip_skip=1)).scanlines == skipped.scanlines
    assert render(renderer, task_of(folders, family)).scanlines == plain.scanlines, "it leaves nothing behind"


@pytest.mark.parametrize("family", FAMILIES)
def test_clip_skip_holds_for_every_piece_of_a_long_prompt(renderer: Any, folders: dict[str, Path], family: str) -> None:
    long = "a red fox over the sea " * 40
    plain = render(renderer, task_of(folders, family, prompt=long))
    assert render(renderer, task_of(folders, family, prompt=long, clip_skip=1)).scanlines != plain.scanlines


@pytest.mark.parametrize(
    ("family", "skipped", "words"), [("stable-diffusion", 2, "can leave out 1 "), ("flux", 1, "no CLIP skip")]
)
def test_more_than_the_text_encoder_has_is_refused(
    renderer: Any, folders: dict[str, Path], family: str, skipped: int, words: str
) -> None:
    with pytest.raises(RenderFailed, match=words) as failure:
        render(renderer, task_of(folders, family, clip_skip=skipped))
    assert failure.value.reason is FailureReason.INVALID_REQUEST


def scanlines(renderer: Any, folders: dict[str, Path], family: str, prompt: str, **changes: Any) -> bytes:
    values = {"prompt": prompt, "guidance_scale": 3.0, "prompt_syntax": "weighted"} | changes
    return render(renderer, task_of(folders, family, **values)).scanlines


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_change_the_image_and_a_weight_of_one_does_not(
    renderer: Any, folders: dict[str, Path], family: str
) -> None:
    plain = scanlines(renderer, folders, family, "a red circle")
    assert scanlines(renderer, folders, family, "a (red:1.0) circle") == plain
    assert scanlines(renderer, folders, family, r"a red circle", prompt_syntax="plain") == plain
    images = {scanlines(renderer, folders, family, f"a {word} circle") for word in ("(red:1.5)", "(red)", "[red]")}
    assert len({plain, *images}) == 4
    assert scanlines(renderer, folders, family, "a (red:1.5) circle", negative_prompt="(blue:1.4)") not in images


@pytest.mark.parametrize("family", FAMILIES)
def test_escaped_brackets_are_text(renderer: Any, folders: dict[str, Path], family: str) -> None:
    literal = render(renderer, task_of(folders, family, prompt="a (red) circle", guidance_scale=3.0)).scanlines
    assert scanlines(renderer, folders, family, r"a \(red\) circle") == literal


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_hold_beside_clip_skip_and_in_long_prompts(
    renderer: Any, folders: dict[str, Path], family: str
) -> None:
    long = "a fox over the sea " * 40
    unweighted = scanlines(renderer, folders, family, long + "red")
    assert scanlines(renderer, folders, family, long + "(red:1.5)") != unweighted
    skipped = scanlines(renderer, folders, family, "a (red:1.5) circle", clip_skip=1)
    assert skipped != scanlines(renderer, folders, family, "a (red:1.5) circle")


def test_a_family_that_cannot_weight_says_so(renderer: Any, folders: dict[str, Path]) -> None:
    task = task_of(folders, "flux", prompt="a (red:1.3) circle")
    renderer.load(ModelKey.of_task(task))
    (warning,) = renderer.warnings(task)
    assert (warning.code, warning.words) == (WarningCode.WEIGHTS_IGNORED, ("red",))
    weighted = task_of(folders, "stable-diffusion", prompt="a (red:1.3) circle", prompt_syntax="weighted")
    renderer.load(ModelKey.of_task(weighted))
    assert renderer.warnings(weighted) == ()


@pytest.mark.parametrize(
    ("prompt", "fragments"),
    [
        ("a ((big))", [("a ", 1.0), ("big", 1.21)]),
        ("(a (b:1.5) c:0.5)", [("a ", 0.5), ("b", 0.75), (" c", 0.5)]),
        ("smile :) (x", [("smile :) (x", 1.0)]),
        ("(a:99)", [("a", 10.0)]),
        ("(:1.2)", []),
        ("", []),
    ],
)
def test_brackets_as_users_know_them(torch_installed: None, prompt: str, fragments: list[tuple[str, float]]) -> None:
    from dreamforge.gpu_runner.rendering.features.prompt_weights import weighted_fragments

    assert [tuple(each) for each in weighted_fragments(prompt)] == fragments
