"""`dreamforge verify` says of each picture what fits, what does not, and what cannot be checked."""

import hashlib
import io
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from dreamforge.cli.jobs.verify import Picture, checks_of_file, checks_of_log, exit_code
from dreamforge.contracts.pictures.mark import XMP, XMP_KEYWORD
from dreamforge.contracts.pictures.metadata import read_metadata
from dreamforge.contracts.pictures.recipe_hash import recipe_sha256
from dreamforge.runtime.pictures.credentials import ContentCredentials

JOB_ID = "01a20638-499f-7288-a6c2-5e668ec21e03"
RECIPE: dict[str, Any] = {"prompt": "a fox"}  # Any: JSON


def ours() -> bytes:
    """A picture with a recipe and the mark."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("dreamforge", '{"prompt": "a fox"}')
    texts.add_itxt(XMP_KEYWORD, XMP)
    out = io.BytesIO()
    Image.new("RGB", (2, 2)).save(out, "PNG", pnginfo=texts)
    return out.getvalue()


def picture(data: bytes, **credentials: Any) -> Picture:
    """A picture, with credentials where they are given."""
    stated = {"job_id": JOB_ID, "recipe_sha256": recipe_sha256(RECIPE)}
    found = (
        ContentCredentials(**{"state": "Valid", "signer": "us", "stated": stated} | credentials)
        if credentials
        else None
    )
    return Picture(data, read_metadata(data), found)


def results(found: Picture, job: Any = None, job_id: str | None = None) -> dict[str, str]:
    """Each check by name."""
    return {each.name: each.result for each in (*checks_of_file(found), *checks_of_log(found, job, job_id))}


def job(data: bytes, recipe: Any) -> dict[str, Any]:
    """A job with one image, as the gateway shows it."""
    return {"artifacts": [{"artifact_id": "a", "sha256": hashlib.sha256(data).hexdigest(), "recipe": recipe}]}


def test_a_signed_picture_that_the_log_has_fits_in_everything() -> None:
    found = results(picture(ours(), state="Trusted"), job(ours(), RECIPE), JOB_ID)
    assert set(found.values()) == {"ok"}


@pytest.mark.parametrize(
    ("found", "stored", "name"),
    [
        (picture(ours(), state="Invalid", problems=("assertion.dataHash.mismatch",)), job(ours(), RECIPE), "signature"),
        (picture(ours(), stated={"recipe_sha256": "0" * 64}), job(ours(), RECIPE), "recipe"),
        (picture(ours(), state="Valid"), None, "log"),
        (picture(ours(), state="Valid"), job(b"other", RECIPE), "log"),
        (picture(ours(), state="Valid"), job(ours(), {"prompt": "a cat"}), "recorded recipe"),
    ],
)
def test_what_contradicts_is_said_and_is_exit_code_1(found: Picture, stored: Any, name: str) -> None:
    checks = (*checks_of_file(found), *checks_of_log(found, stored, JOB_ID))
    assert [each.name for each in checks if each.result == "does not fit"] == [name]
    assert exit_code(checks) == 1


def test_of_a_foreign_picture_nothing_can_be_checked() -> None:
    out = io.BytesIO()
    Image.new("RGB", (2, 2)).save(out, "WEBP")
    for data in (out.getvalue(), b"GIF89a"):
        checks = (*checks_of_file(picture(data)), *checks_of_log(picture(data), None, None))
        assert {each.result for each in checks} == {"cannot be checked"}
        assert exit_code(checks) == 6
