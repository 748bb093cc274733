"""What signs the images of a runner: with a certificate, without one, and with one that has expired."""

import io
from datetime import timedelta
from pathlib import Path

import pytest
from PIL import Image as Pil
from runner_testkit.tasks import render_task

from dreamforge.gpu_runner.protocol.messages import Image, Timings
from dreamforge.gpu_runner.protocol.recipe import Engine, recipe_for
from dreamforge.gpu_runner.settings import RunnerSettings
from dreamforge.gpu_runner.supervisor.picture_signing import picture_signing
from dreamforge.runtime import clock
from dreamforge.runtime.pictures.certificate import make_certificate
from dreamforge.runtime.pictures.credentials import read_credentials
from dreamforge.runtime.service.settings import InvalidSettings
from dreamforge.runtime.storage.objects import sha256_of

ENGINE = Engine(renderer="synthetic", device="cpu", device_name="x", dtype="uint8", threads=1, versions={})


def image() -> Image:
    """A finished image."""
    out = io.BytesIO()
    Pil.new("RGB", (8, 8)).save(out, "PNG")
    recipe = recipe_for(render_task(), 1, ENGINE, pipeline="P", sampler="S")
    data = out.getvalue()
    return Image(
        task_id="t", image_index=1, sha256=sha256_of(data), width_px=8, height_px=8, content_type="image/png",
        recipe=recipe, timings=Timings(render_seconds=0, encode_seconds=0), body=data,
    )  # fmt: skip


def settings(folder: Path, *, days_ago: int = 0) -> RunnerSettings:
    """Settings with a certificate of 30 days."""
    made = make_certificate("Studio A", clock.now() - timedelta(days=days_ago), 30)
    (folder / "chain.pem").write_text(made.chain)
    return RunnerSettings(runner_certificate=str(folder / "chain.pem"), runner_certificate_key=made.key)


async def test_an_image_is_signed_and_named_by_its_new_hash(tmp_path: Path) -> None:
    signed = await picture_signing(settings(tmp_path))(image(), "job-1", {"prompt": "x"})
    found = read_credentials(signed.body, "image/png")
    assert found is not None
    assert (found.state, found.stated["job_id"], found.stated["index"]) == ("Valid", "job-1", 1)
    assert signed.sha256 == sha256_of(signed.body) != image().sha256


async def test_an_expired_certificate_costs_the_signature_and_not_the_picture(tmp_path: Path) -> None:
    kept = await picture_signing(settings(tmp_path, days_ago=60))(image(), "job-1", {})
    assert kept == image()


async def test_without_a_certificate_an_image_stays_as_it_is() -> None:
    assert await picture_signing(RunnerSettings())(image(), "job-1", {}) == image()


def test_a_certificate_that_cannot_sign_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "chain.pem").write_text("nothing")
    with pytest.raises(InvalidSettings, match="FORGE_RUNNER_CERTIFICATE"):
        picture_signing(RunnerSettings(runner_certificate=str(tmp_path / "chain.pem"), runner_certificate_key="no key"))
