"""A picture of each format shows its pixels, and says what it was made from to every program that looks."""

import io
import json
import shutil
import subprocess
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil
from runner_testkit.tasks import render_task
from sd_parsers import ParserManager

from dreamforge.contracts.pictures.formats import FORMATS, IMAGE_FORMATS, OutputFormat
from dreamforge.contracts.pictures.infotext import infotext
from dreamforge.contracts.pictures.mark import DIGITAL_SOURCE_TYPE
from dreamforge.contracts.pictures.metadata import read_metadata
from dreamforge.contracts.pictures.strip import without_recipe
from dreamforge.gpu_runner.protocol.recipe import Engine, recipe_for
from dreamforge.gpu_runner.rendering.encode import EncodedImage, encode
from dreamforge.gpu_runner.rendering.scanlines import sub_filtered
from dreamforge.runtime import clock
from dreamforge.runtime.pictures.certificate import make_certificate
from dreamforge.runtime.pictures.credentials import Origin, PictureSigner, read_credentials

PROMPT = 'füchse, "rot": 🦊\nin the snow'
ENGINE = Engine(renderer="diffusers", device="cpu", device_name="AVX2", dtype="float32", threads=1, versions={})
EXACT = ("png", "webp_lossless")
every_format = pytest.mark.parametrize("name", IMAGE_FORMATS)


def pixels() -> np.ndarray:
    """A smooth picture of 48 x 32 px, which every encoder keeps nearly as it is."""
    rows, columns = np.mgrid[0:32, 0:48]
    return np.stack([rows * 8, columns * 5, rows + columns], axis=2).astype(np.uint8)


@cache
def encoded(name: OutputFormat, prompt: str = PROMPT, quality: int | None = None) -> EncodedImage:
    """One picture of a format."""
    chosen = FORMATS[name].quality if quality is None else quality
    task = render_task(
        prompt=prompt,
        negative_prompt="text, frames",
        width_px=48,
        height_px=32,
        sampler="dpmpp_2m_karras",
        output_format=name,
        output_quality=chosen,
    )
    recipe = recipe_for(task, 7, ENGINE, pipeline="P", sampler="DPMSolverMultistepScheduler")
    return encode(sub_filtered(pixels()), task.output_px, task.request, recipe)


@every_format
def test_another_decoder_sees_the_pixels(name: OutputFormat) -> None:
    with Pil.open(io.BytesIO(encoded(name).data)) as image:
        assert (image.size, Pil.MIME[image.format or ""]) == ((48, 32), FORMATS[name].content_type)
        difference = np.abs(np.asarray(image.convert("RGB")).astype(int) - pixels())
    assert difference.max() <= (0 if name in EXACT else 24)
    assert difference.mean() < 3


@every_format
def test_the_same_recipe_gives_the_same_bytes(name: OutputFormat) -> None:
    assert encoded.__wrapped__(name).data == encoded(name).data


@every_format
def test_recipe_parameters_and_mark_are_in_the_file(name: OutputFormat) -> None:
    file = encoded(name)
    found = read_metadata(file.data)
    assert found.recipe == file.recipe.model_dump(mode="json")
    assert found.parameters == infotext(found.recipe, "dpmpp_2m_karras")
    assert found.is_marked
    assert not found.has_credentials


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif"])
def test_a_lossy_file_names_what_encoded_it(name: OutputFormat) -> None:
    assert "pillow" in encoded(name).recipe.versions
    assert "pillow" not in encoded("png").recipe.versions


@pytest.mark.parametrize("name", ["jpeg", "webp", "avif"])
def test_a_lower_quality_is_a_smaller_file(name: OutputFormat) -> None:
    assert len(encoded(name, quality=5).data) < len(encoded(name, quality=100).data)


@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "webp_lossless"])
def test_sd_parsers_reads_prompts_and_sampler(name: OutputFormat) -> None:
    found = ParserManager().parse(io.BytesIO(encoded(name).data))
    assert found is not None
    assert found.generator.value == "AUTOMATIC1111"
    assert [each.value for each in found.prompts] == [PROMPT]
    assert [each.value for each in found.negative_prompts] == ["text, frames"]
    (sampler,) = found.samplers
    assert (sampler.name, sampler.parameters["scheduler"], sampler.parameters["seed"]) == ("DPM++ 2M", "Karras", "7")


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed (libimage-exiftool-perl)")
def test_exiftool_finds_the_text_and_the_mark_and_no_error(tmp_path: Path) -> None:
    for name in IMAGE_FORMATS:
        (tmp_path / f"{name}{FORMATS[name].extension}").write_bytes(encoded(name).data)
    command = ["exiftool", "-json", "-n", "-all", "-validate", tmp_path]
    said = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert len(said) == len(IMAGE_FORMATS)
    for found in said:
        assert found["DigitalSourceType"] == DIGITAL_SOURCE_TYPE
        assert found["Validate"].split()[0] == "0", found  # errors; warnings follow
        assert (found.get("Parameters") or found["UserComment"]).startswith("füchse")


@every_format
def test_a_prompt_larger_than_a_jpeg_segment_costs_the_text_and_never_the_picture(name: OutputFormat) -> None:
    found = read_metadata(encoded(name, prompt="🦊" * 40_000).data)
    assert found.is_marked
    assert (found.recipe is None) == (name == "jpeg")


@every_format
def test_a_nul_in_a_prompt_does_not_end_the_text(name: OutputFormat) -> None:
    assert "after" in (read_metadata(encoded(name, prompt="before\0after").data).parameters or "")


@every_format
def test_without_its_recipe_a_picture_keeps_its_pixels_and_the_mark_and_no_word_of_the_prompt(
    name: OutputFormat,
) -> None:
    made = make_certificate("Studio A", clock.now(), 30)
    origin = Origin("job", 0, "0" * 64, clock.now())
    signed = PictureSigner(made.chain, made.key).sign(encoded(name).data, FORMATS[name].content_type, origin)
    for data in (encoded(name).data, signed):
        bare = without_recipe(data)
        found = read_metadata(bare)
        assert (found.is_marked, found.recipe, found.parameters or "", found.has_credentials) == (True, None, "", False)
        assert read_credentials(bare, FORMATS[name].content_type) is None
        assert not [word for word in ("hse", "frames", "Steps", "Studio") if word.encode() in bare]
        assert not [word for word in ("hse", "frames", "Steps") if word.encode("utf-16-be") in bare]
        before, after = (Pil.open(io.BytesIO(each)).tobytes() for each in (data, bare))
        assert before == after
