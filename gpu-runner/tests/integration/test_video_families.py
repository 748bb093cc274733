"""Every family of videos renders with real torch as the large one does: from a prompt, and from an image."""

import io
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image
from runner_testkit.child import Talk
from runner_testkit.tasks import changed, render_task

from dreamforge.contracts.events import FailureReason
from dreamforge.contracts.models.descriptor import FAMILY_PARAMETERS
from dreamforge.contracts.pictures.metadata import read_metadata
from dreamforge.contracts.request.limits import Limits
from dreamforge.contracts.request.schema import request_schema
from dreamforge.gpu_runner.protocol.render_task import InputImage, RenderTask
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderFailed
from dreamforge.gpu_runner.supervisor.local_models import read_model
from dreamforge.runtime.storage.model_inspection import inspect_model

pytestmark = [pytest.mark.torch, pytest.mark.timeout(240), pytest.mark.xdist_group("child")]
FAMILIES = ("wan", "wan-i2v", "wan-ti2v", "ltx")
FRAMES, SIDE_PX = 9, 64
FRAME_BYTES = 3 * SIDE_PX * SIDE_PX


@pytest.fixture(scope="module")
def renderer() -> Any:  # Any: see below
    # Not imported before a test needs it: it brings torch.
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


def an_image(cache: Path, colour: tuple[int, int, int] = (200, 40, 40)) -> InputImage:
    path = cache / f"{'-'.join(map(str, colour))}.png"
    Image.new("RGB", (SIDE_PX, SIDE_PX), colour).save(path)
    return InputImage(path=str(path), sha256=f"{colour[0]:064x}")


def video_task(cache: Path, family: str, **values: Any) -> RenderTask:  # Any: see `render_task`
    """Two steps; from an image where the family needs one."""
    from runner_testkit.families import ensure_family

    if family == "wan-i2v":
        values.setdefault("init_image", an_image(cache))
    usual = {"steps": 2, "frames": FRAMES, "frames_per_second": 8, "output_format": "mp4", "output_quality": 65}
    return render_task(**usual | {"model_id": family, "model_path": str(ensure_family(cache, family))} | values)


def frames_of(renderer: Any, task: RenderTask) -> bytes:
    key = ModelKey.of_task(task)
    if not renderer.is_resident(key):
        renderer.load(key)
    return bytes(renderer.render(task, task.request.seed, lambda step, of, preview: None).scanlines)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_is_known_by_its_class_and_what_its_networks_read(cache: Path, family: str) -> None:
    facts = inspect_model(Path(video_task(cache, family).model.path))
    assert (facts.family, facts.is_family_sure, facts.modes) == (family, True, FAMILY_PARAMETERS[family].modes)


@pytest.mark.parametrize("family", FAMILIES)
def test_prompt_seed_guidance_and_frames_make_the_video(renderer: Any, cache: Path, family: str) -> None:
    task = video_task(cache, family)
    first = frames_of(renderer, task)
    assert len(first) == FRAMES * FRAME_BYTES
    assert first == frames_of(renderer, task)
    assert len({first[at : at + FRAME_BYTES] for at in range(0, len(first), FRAME_BYTES)}) > 1
    changes: tuple[dict[str, Any], ...] = ({"prompt": "a dog"}, {"seed": 2}, {"guidance_scale": 7.0})
    for change in (*changes, {"negative_prompt": "water"}):
        assert frames_of(renderer, changed(task, **change)) != first
    assert len(frames_of(renderer, changed(task, frames=17, width_px=128))) == 17 * 2 * FRAME_BYTES


@pytest.mark.parametrize("family", ["wan-i2v", "wan-ti2v", "ltx"])
def test_an_image_begins_the_video(renderer: Any, cache: Path, family: str) -> None:
    made = {
        frames_of(renderer, video_task(cache, family, init_image=an_image(cache, colour)))
        for colour in ((200, 40, 40), (40, 40, 200))
    }
    assert len(made) == 2
    assert {len(frames) for frames in made} == {FRAMES * FRAME_BYTES}


@pytest.mark.parametrize("family", ["wan-2-2", "wan-i2v"])
def test_a_second_transformer_has_a_guidance_scale_of_its_own(renderer: Any, cache: Path, family: str) -> None:
    task = video_task(cache, family, guidance_scale=4.0)
    as_the_first = frames_of(renderer, task)
    assert frames_of(renderer, changed(task, guidance_scale_2=4.0)) == as_the_first
    weaker = frames_of(renderer, changed(task, guidance_scale_2=3.0))
    assert weaker not in (as_the_first, frames_of(renderer, changed(task, guidance_scale=3.0)))


def test_the_shift_of_the_model_is_that_of_a_request_which_names_it(renderer: Any, cache: Path) -> None:
    task = video_task(cache, "wan", steps=3)
    own = frames_of(renderer, task)  # its files say 3
    assert frames_of(renderer, changed(task, flow_shift=3.0)) == own
    assert frames_of(renderer, changed(task, flow_shift=8.0)) != own


def test_the_decoder_of_ltx_gets_the_last_noise_that_it_was_trained_with(renderer: Any, cache: Path) -> None:
    task = video_task(cache, "ltx")
    frames_of(renderer, task)
    decoder, seen = renderer._pipelines.get(ModelKey.of_task(task)).vae.decoder, []
    hook = decoder.register_forward_pre_hook(lambda _, given: seen.append(given[1].tolist()))
    frames_of(renderer, task)
    hook.remove()
    assert seen == [pytest.approx([0.05])]


@pytest.mark.parametrize(("family", "has_two"), [("wan", False), ("wan-2-2", True), ("wan-i2v", True)])
def test_the_files_say_whether_there_is_a_second_transformer(cache: Path, family: str, has_two: bool) -> None:
    model = read_model(Path(video_task(cache, family).model.path)).descriptor
    assert model.second_transformer is has_two
    assert ("guidance_scale_2" in request_schema(model, Limits())["properties"]) is has_two


@pytest.mark.parametrize(
    ("family", "change", "said"),
    [
        ("wan", {"frames": 8}, "8 frames are not one more than a multiple of 4"),
        ("ltx", {"frames": 13}, "13 frames are not one more than a multiple of 8"),
        ("ltx", {"frames": None}, "frames and frames_per_second are needed"),
        ("ltx", {"output_format": "png"}, "png is a format of images"),
        ("wan-i2v", {"init_image": None}, "init_image is needed"),
        ("wan", {"width_px": 72}, "width 72 is not a multiple of 16"),
        ("wan", {"guidance_scale_2": 3.0}, "guidance_scale_2 is of a second transformer"),
        ("ltx", {"width_px": 80}, "width 80 is not a multiple of 32"),
    ],
)
def test_what_a_pipeline_would_round_or_not_understand_is_refused(
    renderer: Any, cache: Path, family: str, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(RenderFailed, match=said) as refused:
        frames_of(renderer, changed(video_task(cache, family), **change))
    assert refused.value.reason is FailureReason.INVALID_REQUEST


def test_a_model_of_images_renders_no_video(renderer: Any, cache: Path) -> None:
    from runner_testkit.families import ensure_family

    task = video_task(cache, "ltx", model_id="sd", model_path=str(ensure_family(cache, "stable-diffusion")))
    with pytest.raises(RenderFailed, match="renders images, and frames are of a video"):
        frames_of(renderer, task)


@pytest.mark.parametrize("family", ["wan", "ltx"])
def test_the_first_frame_is_looked_at_while_it_is_rendered(renderer: Any, cache: Path, family: str) -> None:
    from dreamforge.gpu_runner.rendering.features.previews import fit, unpacked

    task = video_task(cache, family)
    frames_of(renderer, task)
    pipeline = renderer._pipelines.get(ModelKey.of_task(task))
    seen: list[Any] = []

    def look(whole: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append(unpacked(whole, tensors["latents"], width_px=SIDE_PX, height_px=SIDE_PX))
        return {}

    size = {"width": SIDE_PX, "height": SIDE_PX, "num_frames": FRAMES, "num_inference_steps": 2}
    pipeline(prompt="a fox", output_type="latent", callback_on_step_end=look, **size)
    colours = fit(pipeline.vae).look(seen[0])
    assert colours.shape == (*seen[0].shape[2:], 3)


@pytest.mark.asyncio(loop_scope="session")
async def test_the_child_in_its_sandbox_renders_encodes_and_sends_a_video(talk: Talk, cache: Path) -> None:
    task = video_task(cache, "ltx", task_id="a-video")
    (image,) = await talk.images(task)
    assert (image.content_type, image.width_px, image.height_px) == ("video/mp4", SIDE_PX, SIDE_PX)
    with av.open(io.BytesIO(image.body)) as container:
        assert sum(1 for _ in container.decode(video=0)) == FRAMES
    recipe = read_metadata(image.body).recipe
    assert recipe is not None
    assert (recipe["pipeline"], recipe["frames"], recipe["frames_per_second"]) == ("LTXPipeline", FRAMES, 8)
    assert recipe == image.recipe.model_dump(mode="json")
    assert [step.step for step in talk.steps(task)] == [1, 2]
