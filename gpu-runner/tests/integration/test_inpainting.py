"""What a mask protects comes back exactly; what lies between is blended; what was done to an input is said."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from runner_testkit.tasks import LocalControl, render_task

from dreamforge.contracts.events import WarningCode
from dreamforge.contracts.request.values import ControlUse, MaskedArea, Upscale
from dreamforge.gpu_runner.protocol.render_task import InputImage, ModelFiles, RenderTask
from dreamforge.gpu_runner.rendering.renderer import ModelKey, RenderedImage
from dreamforge.runtime.storage.objects import sha256_of

pytestmark = pytest.mark.torch
SIZE = (64, 64)
Bytes = NDArray[np.uint8]


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, built in this process."""
    from runner_testkit.families import ensure_family

    return ensure_family(tmp_path_factory.mktemp("models"), "stable-diffusion")


@pytest.fixture(scope="module")
def renderer() -> Any:
    """A renderer on the CPU. Any: its module imports torch."""
    from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer

    return DiffusersRenderer(device="cpu", dtype="auto", threads=1)


def uploaded(folder: Path, name: str, image: Image.Image) -> InputImage:
    image.save(folder / name)
    return InputImage(path=str(folder / name), sha256=sha256_of((folder / name).read_bytes()))


def noise(size: tuple[int, int] = SIZE) -> Image.Image:
    """Every pixel another: nothing that passes an autoencoder comes back like this."""
    values = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(values)


def mask_of(values: Bytes) -> Image.Image:
    return Image.fromarray(values)


def half(size: tuple[int, int] = SIZE) -> Bytes:
    values = np.zeros(size[::-1], dtype=np.uint8)
    values[:, : size[0] // 2] = 255
    return values


def inpainted(renderer: Any, folder: Path, tiny_folder: Path, mask: Bytes, **changes: Any) -> RenderedImage:
    inputs = {
        "init_image": uploaded(folder, "start.png", changes.pop("start", noise())),
        "mask_image": uploaded(folder, "a-mask.png", mask_of(mask)),
    }
    values: dict[str, Any] = {"model_path": str(tiny_folder), "strength": 1.0, "steps": 2, "resize_mode": "crop"}
    return rendered(renderer, render_task(**values | inputs | changes))


def rendered(renderer: Any, task: RenderTask) -> RenderedImage:
    key = ModelKey.of_task(task)
    if not renderer.is_resident(key):
        renderer.load(key)
    image: RenderedImage = renderer.render(task, 1, lambda step, of, preview: None)
    return image


def pixels(image: RenderedImage, size: tuple[int, int] = SIZE) -> Bytes:
    """The pixels in rows of the filter Sub."""
    rows = np.frombuffer(image.scanlines, np.uint8).reshape(size[1], 1 + 3 * size[0])
    return rows[:, 1:].reshape(size[1], size[0], 3).cumsum(axis=1, dtype=np.uint8)


def test_protected_pixels_come_back_exactly_and_the_hole_is_rendered(
    renderer: Any, tmp_path: Path, tiny_folder: Path
) -> None:
    image = inpainted(renderer, tmp_path, tiny_folder, half())
    found, start = pixels(image), np.asarray(noise())
    assert (found[:, 32:] == start[:, 32:]).all()
    assert (found[:, :32] != start[:, :32]).mean() > 0.9
    assert image.recipe.image_rules == 2
    nothing = inpainted(renderer, tmp_path, tiny_folder, np.zeros_like(half()))
    assert (pixels(nothing) == start).all()


def test_a_soft_mask_blends(renderer: Any, tmp_path: Path, tiny_folder: Path) -> None:
    start = np.asarray(noise()).astype(np.int32)
    whole = pixels(inpainted(renderer, tmp_path, tiny_folder, np.full_like(half(), 255))).astype(np.int32)
    soft = pixels(inpainted(renderer, tmp_path, tiny_folder, np.full_like(half(), 128))).astype(np.int32)
    assert (abs(soft - (start * 127 + whole * 128) / 255) <= 1).all(), "the model rendered the whole of both"


def test_a_second_pass_keeps_what_the_mask_protects(renderer: Any, tmp_path: Path, tiny_folder: Path) -> None:
    upscale = Upscale(width_px=128, height_px=128, strength=0.5)
    large = noise((128, 128))
    image = inpainted(
        renderer, tmp_path, tiny_folder, half((128, 128)), start=large, upscale=upscale, steps=4, seeds=(1,)
    )
    assert (pixels(image, (128, 128))[:, 64:] == np.asarray(large)[:, 64:]).all()


def test_a_wide_image_is_cropped_with_its_mask_and_a_fitted_one_is_completed(
    renderer: Any, tmp_path: Path, tiny_folder: Path
) -> None:
    wide = noise((128, 64))
    cropped = pixels(inpainted(renderer, tmp_path, tiny_folder, half((128, 64)), start=wide))
    assert (cropped[:, 32:] == np.asarray(wide)[:, 64:96]).all()
    protected = np.zeros((64, 128), dtype=np.uint8)
    fitted = pixels(inpainted(renderer, tmp_path, tiny_folder, protected, start=wide, resize_mode="fit"))
    inner = np.asarray(wide.resize((64, 32), Image.Resampling.LANCZOS))
    assert (fitted[16:48] == inner).all()
    assert len(np.unique(fitted[:16].reshape(-1, 3), axis=0)) > 64, "the margin is rendered, and not one row repeated"


def test_a_request_recorded_before_there_was_a_choice_is_stretched(
    renderer: Any, tmp_path: Path, tiny_folder: Path
) -> None:
    wide = noise((128, 64))
    found = pixels(
        inpainted(renderer, tmp_path, tiny_folder, np.zeros((64, 128), np.uint8), start=wide, resize_mode=None)
    )
    assert (found == np.asarray(wide.resize(SIZE, Image.Resampling.LANCZOS))).all()


def test_one_warning_says_what_was_done_to_every_input(renderer: Any, tmp_path: Path, tiny_folder: Path) -> None:
    from dreamforge.gpu_runner.rendering.features.input_notes import InputNotes

    deep = Image.fromarray(np.full((64, 64), 40_000, dtype=np.uint16))
    control = uploaded(tmp_path, "control.png", deep)
    task = render_task(
        model_path=str(tiny_folder),
        init_image=uploaded(tmp_path, "start.png", noise((128, 64))),
        mask_image=uploaded(tmp_path, "a-mask.png", Image.new("L", (64, 64), 90)),
        control=LocalControl(
            ControlUse(model_id="c", image=control.sha256), ModelFiles(path=".", digest="3" * 64), control
        ),
        resize_mode="crop",
    )
    (warning,) = InputNotes().warnings(None, task)
    assert warning.code is WarningCode.INPUT_CONVERTED
    assert warning.message == (
        "init_image: cropped from 128x64 to 64x64, another shape; "
        "mask_image: stretched to the shape of the image, it is nowhere lighter than half, so the model renders "
        "nothing anew; control image: 16 bits a channel scaled to 8"
    )
    plain = render_task(model_path=str(tiny_folder), init_image=uploaded(tmp_path, "plain.png", noise()))
    assert InputNotes().warnings(None, plain) == ()
    rendered(renderer, plain)
    assert [each.code for each in renderer.warnings(plain)] == []
    wide = render_task(model_path=str(tiny_folder), init_image=uploaded(tmp_path, "wide.png", noise((128, 64))))
    assert [each.code for each in renderer.warnings(wide)] == [WarningCode.INPUT_CONVERTED]


def hole(size: tuple[int, int], box: tuple[int, int, int, int]) -> Bytes:
    values = np.zeros(size[::-1], dtype=np.uint8)
    values[box[1] : box[3], box[0] : box[2]] = 255
    return values


def test_only_the_masked_area_is_rendered_and_every_other_pixel_stays(
    renderer: Any, tmp_path: Path, tiny_folder: Path
) -> None:
    size, box = (150, 100), (40, 30, 60, 45)
    start = noise(size)
    area = MaskedArea(padding_px=6, width_px=size[0], height_px=size[1])
    found = pixels(
        inpainted(renderer, tmp_path, tiny_folder, hole(size, box), start=start, masked_area=area, strength=0.7), size
    )
    changed = (found != np.asarray(start)).any(axis=2)
    assert not changed[hole(size, box) == 0].any()
    assert changed[hole(size, box) == 255].mean() > 0.9
    blurred = pixels(
        inpainted(
            renderer, tmp_path, tiny_folder, hole(size, box), start=start, masked_area=area, mask_blur_px=2.0, steps=2
        ),
        size,
    )
    soft = Image.fromarray(hole(size, box)).filter(ImageFilter.GaussianBlur(2.0))
    changed = (blurred != np.asarray(start)).any(axis=2)
    assert not changed[np.asarray(soft) == 0].any()
    assert changed[hole(size, box) == 0].any(), "the edge is a blend"


def test_an_area_is_rendered_as_its_crop_alone_would_be(renderer: Any, tmp_path: Path, tiny_folder: Path) -> None:
    size, box = (200, 160), (50, 40, 114, 104)
    area = MaskedArea(padding_px=0, width_px=size[0], height_px=size[1])
    start = noise(size)
    found = pixels(inpainted(renderer, tmp_path, tiny_folder, hole(size, box), start=start, masked_area=area), size)
    alone = pixels(inpainted(renderer, tmp_path, tiny_folder, np.full_like(half(), 255), start=start.crop(box)))
    assert (found[40:104, 50:114] == alone).all()


def test_the_black_parts_of_a_mask_can_be_what_is_rendered(renderer: Any, tmp_path: Path, tiny_folder: Path) -> None:
    found = pixels(inpainted(renderer, tmp_path, tiny_folder, half(), mask_selects="black"))
    assert (found[:, :32] == np.asarray(noise())[:, :32]).all()
    assert (found == pixels(inpainted(renderer, tmp_path, tiny_folder, 255 - half()))).all()


@pytest.mark.parametrize("family", ["stable-diffusion", "flux"])
def test_what_lies_below_a_mask_shows_where_the_strength_is_below_one(
    renderer: Any, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, family: str
) -> None:
    from runner_testkit.families import ensure_family

    folder = ensure_family(tmp_path_factory.getbasetemp() / "models0", family)
    start = np.asarray(noise())

    def with_fill(fill: str | None, strength: float = 0.5) -> Bytes:
        image = inpainted(renderer, tmp_path, folder, half(), mask_fill=fill, strength=strength, steps=4)
        found = pixels(image)
        assert (found[:, 32:] == start[:, 32:]).all()
        return found

    fills = [with_fill(fill) for fill in ("original", "fill", "noise", "nothing")]
    assert (fills[0] == with_fill(None)).all()
    assert all((one != other).any() for one, other in itertools.combinations(fills, 2))
    assert (fills[2] == with_fill("noise")).all(), "the noise is that of the seed"
    assert (with_fill("noise", 1.0) == with_fill(None, 1.0)).all(), "all is noise there anyway"


def test_the_image_of_a_controlnet_is_cut_as_the_image_is(tmp_path: Path) -> None:
    from dreamforge.gpu_runner.rendering.prepared_inputs import controls_of, start_of

    size, box = (200, 160), (50, 40, 114, 104)
    image = uploaded(tmp_path, "start.png", noise(size))
    use = LocalControl(ControlUse(model_id="c", image=image.sha256), ModelFiles(path=".", digest="3" * 64), image)
    area = MaskedArea(padding_px=0, width_px=size[0], height_px=size[1])
    mask = uploaded(tmp_path, "a-mask.png", mask_of(hole(size, box)))
    task = render_task(init_image=image, mask_image=mask, control=use, masked_area=area, resize_mode="crop")
    start, (control,) = start_of(task, SIZE), controls_of(task, SIZE)
    assert start is not None
    assert start.image.tobytes() == control.image.tobytes() == noise(size).crop(box).tobytes()
