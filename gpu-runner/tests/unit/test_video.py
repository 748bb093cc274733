"""Frames become an MP4 with recipe, text, mark and poster: the same bytes each time, and read again by others."""

import io
import json
import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from runner_testkit.tasks import render_task

from dreamforge.contracts.pictures.mark import DIGITAL_SOURCE_TYPE
from dreamforge.contracts.pictures.metadata import read_metadata
from dreamforge.contracts.pictures.mp4 import poster_of
from dreamforge.contracts.pictures.strip import without_recipe
from dreamforge.gpu_runner.protocol.recipe import Engine, recipe_for
from dreamforge.gpu_runner.rendering.encode import EncodedImage, encode
from dreamforge.runtime import clock
from dreamforge.runtime.pictures.certificate import make_certificate
from dreamforge.runtime.pictures.credentials import Origin, PictureSigner, read_credentials

WIDTH_PX, HEIGHT_PX, FRAMES = 64, 32, 9
VALUES = {"width_px": WIDTH_PX, "height_px": HEIGHT_PX, "frames": FRAMES, "frames_per_second": 8}
TASK = render_task(**VALUES, output_format="mp4", output_quality=65)
ENGINE = Engine(renderer="synthetic", device="cpu", device_name="", dtype="float32", threads=1, versions={})


def pixels() -> np.ndarray:
    """A red that becomes blue."""
    frames = np.zeros((FRAMES, HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    for number, frame in enumerate(frames):
        frame[:] = 255 - 25 * number, 30, 25 * number
    return frames


def encoded(quality: int = 65) -> EncodedImage:
    request = TASK.request.model_copy(update={"output_quality": quality})
    recipe = recipe_for(TASK, 1, ENGINE, pipeline="LTXPipeline", sampler="Euler")
    return encode(pixels().tobytes(), (WIDTH_PX, HEIGHT_PX), request, recipe)


def frames_of(data: bytes) -> tuple[np.ndarray, str, float]:
    """The frames of a file, its codec, and its frames a second."""
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        read = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
        return read, stream.codec_context.name, float(stream.average_rate or 0)


def test_every_frame_is_there_near_to_what_it_was() -> None:
    read, codec, per_second = frames_of(encoded().data)
    assert (codec, per_second, read.shape) == ("h264", 8.0, (FRAMES, HEIGHT_PX, WIDTH_PX, 3))
    assert np.abs(read.astype(int) - pixels()).mean() < 4


def test_the_same_frames_give_the_same_bytes_and_a_lower_quality_fewer() -> None:
    assert encoded().data == encoded().data
    noise = np.random.default_rng(1).integers(0, 255, (FRAMES, HEIGHT_PX, WIDTH_PX, 3), np.uint8).tobytes()
    sizes = []
    for quality in (10, 95):
        request = TASK.request.model_copy(update={"output_quality": quality})
        recipe = recipe_for(TASK, 1, ENGINE, pipeline="LTXPipeline", sampler="Euler")
        sizes.append(len(encode(noise, (WIDTH_PX, HEIGHT_PX), request, recipe).data))
    assert sizes[0] < sizes[1] / 2


def test_a_file_says_how_it_was_made_and_that_a_model_made_it() -> None:
    made = encoded()
    found = read_metadata(made.data)
    assert (found.content_type, found.is_marked) == ("video/mp4", True)
    assert found.recipe == made.recipe.model_dump(mode="json")
    assert found.recipe["frames"] == FRAMES
    assert {"av", "libavcodec"} <= found.recipe["versions"].keys()
    assert (found.parameters or "").startswith("a red circle")
    with av.open(io.BytesIO(made.data)) as container:  # what other programs read
        assert container.metadata["comment"] == found.parameters


def test_the_poster_is_the_first_frame() -> None:
    poster = poster_of(encoded().data)
    assert poster is not None
    with Image.open(io.BytesIO(poster)) as image:
        assert image.size == (WIDTH_PX, HEIGHT_PX)
        assert np.abs(np.asarray(image).astype(int) - pixels()[0]).mean() < 4


def test_without_its_recipe_a_video_keeps_frames_and_mark() -> None:
    data = encoded().data
    bare = without_recipe(data)
    found = read_metadata(bare)
    assert (found.recipe, found.parameters, found.is_marked) == (None, None, True)
    assert b"a red circle" not in bare
    assert np.array_equal(frames_of(bare)[0], frames_of(data)[0])


def test_a_signed_video_is_trusted_and_a_changed_one_is_not() -> None:
    now = clock.now()
    made = make_certificate("Studio A", now, 30)
    origin = Origin("01a20638-499f-7288-a6c2-5e668ec21e03", 0, "ab" * 32, now)
    signed = PictureSigner(made.chain, made.key).sign(encoded().data, "video/mp4", origin)
    found = read_credentials(signed, "video/mp4", made.authority)
    assert found is not None
    assert found.state == "Trusted"
    assert np.array_equal(frames_of(signed)[0], frames_of(encoded().data)[0])
    assert read_metadata(signed).has_credentials
    changed = bytearray(signed)
    changed[-20] ^= 1
    found = read_credentials(bytes(changed), "video/mp4", made.authority)
    assert found is not None
    assert found.state == "Invalid"


def test_a_damaged_list_of_items_says_nothing() -> None:
    data = encoded().data
    at = data.rindex(b"ilst") - 4
    assert read_metadata(data[:at] + b"\xff\xff" + data[at + 2 :]).recipe is None


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed (libimage-exiftool-perl)")
def test_exiftool_finds_the_text_and_the_mark_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(encoded().data)
    command = ["exiftool", "-json", "-n", "-all", "-validate", str(tmp_path / "video.mp4")]
    (found,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert found["DigitalSourceType"] == DIGITAL_SOURCE_TYPE
    assert found["Comment"].startswith("a red circle")
    assert found["Validate"].split()[0] == "0", found  # errors; warnings follow
