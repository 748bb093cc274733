"""What can be checked of a picture file: its mark, its signature, its recipe, and the log. Pure."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dreamforge.cli.failure import Exit
from dreamforge.contracts.pictures.metadata import PictureMetadata
from dreamforge.contracts.pictures.recipe_hash import recipe_sha256

if TYPE_CHECKING:  # it loads c2pa, 50 MB
    from dreamforge.runtime.pictures.credentials import ContentCredentials

Result = Literal["ok", "does not fit", "cannot be checked"]
Json = Mapping[str, Any]  # Any: JSON


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    name: str
    result: Result
    says: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A file, and what was read in it. `unreadable` says what is damaged."""

    data: bytes
    metadata: PictureMetadata
    credentials: "ContentCredentials | None"
    unreadable: str = ""

    @property
    def stated(self) -> Json:
        """What its credentials state of job and recipe; nothing where they do not hold."""
        held = self.credentials is not None and self.credentials.state != "Invalid"
        return self.credentials.stated if self.credentials is not None and held else {}


def checks_of_file(picture: Picture) -> Iterator[Check]:
    """Everything that the file itself can show."""
    if picture.unreadable:
        yield Check("file", "does not fit", f"it is damaged: {picture.unreadable}")
    elif picture.metadata.content_type is None:
        yield Check("file", "cannot be checked", "it is no PNG, JPEG, WebP or AVIF")
        return
    if picture.metadata.is_marked:
        yield Check("mark", "ok", "it says that a model generated it (IPTC trainedAlgorithmicMedia)")
    else:
        yield Check("mark", "cannot be checked", "it does not say whether it was generated")
    yield _signature(picture.credentials)
    yield _recipe(picture)


def _signature(found: "ContentCredentials | None") -> Check:
    if found is None:
        return Check("signature", "cannot be checked", "it has no content credentials")
    signer = found.signer or "an unnamed certificate"
    if found.state == "Trusted":
        return Check("signature", "ok", f"unchanged since {signer} signed it, by a trusted authority")
    if found.state == "Valid":
        says = f"unchanged since {signer} signed it; whether to trust that is not known (--authority FILE)"
        return Check("signature", "ok", says)
    return Check("signature", "does not fit", f"signed by {signer}, and not valid: {', '.join(found.problems)}")


def _recipe(picture: Picture) -> Check:
    recipe, stated = picture.metadata.recipe, picture.stated.get("recipe_sha256")
    if recipe is None:
        return Check("recipe", "cannot be checked", "there is no recipe of ours in it")
    if stated is None:
        return Check("recipe", "cannot be checked", "it has a recipe, which no signature covers")
    if recipe_sha256(recipe) == stated:
        return Check("recipe", "ok", "its recipe is the one that was signed")
    return Check("recipe", "does not fit", "its recipe is another one than was signed")


def checks_of_log(picture: Picture, job: Json | None, job_id: str | None) -> Iterator[Check]:
    """What the log has about it: `job` is as the gateway shows it, None where there is none with `job_id`."""
    if job_id is None:
        says = "it does not say which job it is from; name one with --job"
        yield Check("log", "cannot be checked", says)
        return
    if job is None:
        yield Check("log", "does not fit", f"there is no job {job_id} here")
        return
    sha256 = hashlib.sha256(picture.data).hexdigest()
    artifact = next((each for each in job["artifacts"] if each["sha256"] == sha256), None)
    if artifact is None:
        yield Check("log", "does not fit", f"job {job_id} has no image with these bytes (SHA-256 {sha256})")
        return
    yield Check("log", "ok", f"it is artifact {artifact['artifact_id']}, byte for byte")
    recipe = picture.metadata.recipe
    if recipe is None:
        yield Check("recorded recipe", "cannot be checked", "there is no recipe of ours in the file")
    elif recipe == artifact["recipe"]:
        yield Check("recorded recipe", "ok", "its recipe is the recorded one")
    else:
        yield Check("recorded recipe", "does not fit", "its recipe is another one than the log has")


def exit_code(checks: tuple[Check, ...]) -> Exit:
    """1 where something does not fit; else 0 where signature or log fit, else 6: nothing could be shown."""
    if any(each.result == "does not fit" for each in checks):
        return Exit.FAILED
    shown = any(each.result == "ok" and each.name in ("signature", "log") for each in checks)
    return Exit.DONE if shown else Exit.NOT_CHECKED
