"""A signed picture says who made it and from what; a changed one does not fit; and each says so in every format."""

import io

import pytest
from PIL import Image

from dreamforge.contracts.pictures.formats import FORMATS, IMAGE_FORMATS, OutputFormat
from dreamforge.contracts.pictures.metadata import read_metadata
from dreamforge.runtime import clock
from dreamforge.runtime.pictures.certificate import make_certificate
from dreamforge.runtime.pictures.credentials import CredentialsError, Origin, PictureSigner, read_credentials

# The library compares with the clock of the machine.
NOW = clock.now()
MADE = make_certificate("Studio A", NOW, 30)
ORIGIN = Origin("01a20638-499f-7288-a6c2-5e668ec21e03", 2, "ab" * 32, NOW)
every_format = pytest.mark.parametrize("name", IMAGE_FORMATS)


def picture(name: OutputFormat) -> bytes:
    """A small picture of a format."""
    out = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(out, FORMATS[name].content_type.partition("/")[2].upper())
    return out.getvalue()


def signed(name: OutputFormat) -> bytes:
    """The same with credentials."""
    return PictureSigner(MADE.chain, MADE.key).sign(picture(name), FORMATS[name].content_type, ORIGIN)


@every_format
def test_a_signed_picture_names_signer_job_and_recipe_and_keeps_its_pixels(name: OutputFormat) -> None:
    data = signed(name)
    found = read_credentials(data, FORMATS[name].content_type, MADE.authority)
    assert found is not None
    assert (found.state, found.signer, found.problems) == ("Trusted", "Studio A pictures of Studio A", ())
    assert found.stated == {"job_id": ORIGIN.job_id, "index": 2, "recipe_sha256": "ab" * 32}
    assert read_metadata(data).has_credentials
    before, after = (Image.open(io.BytesIO(each)).tobytes() for each in (picture(name), data))
    assert before == after


@every_format
def test_a_changed_picture_does_not_fit_its_signature(name: OutputFormat) -> None:
    data = bytearray(signed(name))
    data[-20] ^= 1
    found = read_credentials(bytes(data), FORMATS[name].content_type, MADE.authority)
    assert found is not None
    assert found.state == "Invalid"
    assert found.problems


def test_a_signature_of_others_is_valid_and_not_trusted() -> None:
    found = read_credentials(signed("png"), "image/png", make_certificate("Studio B", NOW, 30).authority)
    assert found is not None
    assert (found.state, found.problems) == ("Valid", ())


def test_a_picture_without_credentials_has_none() -> None:
    assert read_credentials(picture("jpeg"), "image/jpeg") is None


def test_a_key_that_cannot_sign_is_refused_at_once() -> None:
    with pytest.raises(CredentialsError, match="PEM private key"):
        PictureSigner(MADE.chain, "no key")
