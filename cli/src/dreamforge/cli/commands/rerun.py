"""`dreamforge rerun`: renders an artifact again from its recorded request and compares the pixels."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.client.gateway import Json as JsonObject
from dreamforge.cli.console import Json, emit, out, run
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.jobs.artifacts import find_artifact
from dreamforge.cli.jobs.rerun import Comparison, PixelDifference, compare, submission
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.request.render_request import RenderRequest


def rerun(
    artifact: Annotated[
        str, typer.Argument(help="The artifact's id, as `jobs show` lists it; or a job, for its only image.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the new image; default: out/.")
    ] = None,
    json: Json = False,
) -> None:
    """Render an artifact again from its recorded request, and compare the pixels.

    The log has everything that the artifact was made from: the resolved request, and the recipe with the model's
    digest, the device, its precision and the versions of all packages that affect pixels. If pixels differ, it says by
    how much, and which of hardware, library, precision, memory placement, batch geometry, determinism setting, weights
    or request is another one now. Exit code 0: same pixels; 1: different pixels.

    Examples:

      dreamforge rerun 01a20638-499f-7288-a6c2-5e668ec21e03-1-0
      dreamforge rerun last
    """
    settings = cli_settings.load()
    run(_rerun(settings, artifact, output or settings.output_dir, as_json=json))


async def _rerun(settings: CliSettings, artifact_id: str, folder: Path, *, as_json: bool) -> None:
    async with GatewayClient(settings) as gateway:
        job, before = await find_artifact(gateway, artifact_id)
        artifact_id = before["artifact_id"]
        body = submission(RenderRequest.model_validate(job["request"]), before["seed"], before["recipe"])
        accepted = await gateway.submit(body)
        from dreamforge.cli.jobs.result import raise_unless_succeeded, watch_and_save

        view, paths = await watch_and_save(gateway, accepted["job_id"], folder, quiet=as_json)
        raise_unless_succeeded(accepted["job_id"], view)
        after = (await gateway.job(accepted["job_id"]))["artifacts"][0]
        original = await gateway.image(before["url"])
    found = compare(original, paths[0].read_bytes(), before["recipe"], after["recipe"])
    if as_json:
        emit(_as_json(artifact_id, after["artifact_id"], found))
    else:
        _print(found)
    if not found.same_pixels:
        raise CommandError("the pixels differ", Exit.FAILED, {"first": artifact_id, "again": after["artifact_id"]})


def _as_json(first: str, again: str, found: Comparison) -> JsonObject:
    return {
        "artifact_id": first,
        "again": again,
        "same_bytes": found.same_bytes,
        "same_pixels": found.same_pixels,
        "pixels": found.pixels,
        "differing_pixels": found.difference and found.difference.pixels,
        "largest_difference_levels": found.difference and found.difference.levels,
        "psnr_db": found.difference and found.difference.psnr_db,
        "causes": list(found.causes),
        "changes": [{"name": c.name, "cause": c.cause, "was": c.was, "is": c.now} for c in found.changes],
    }


def _print(found: Comparison) -> None:
    if found.same_bytes:
        out.print("identical, byte for byte", style="green")
        return
    if found.same_pixels and not found.changes:
        out.print("same pixels and recipe; only other parts of the file differ, such as its text", style="green")
        return
    if found.same_pixels:
        out.print("same pixels; the recipes differ:", style="green")
    elif found.difference is None:
        out.print("the sizes differ; the recipes differ:", style="red")
    else:
        out.print(f"{_apart(found.difference, found.pixels)}; the recipes differ in:", style="red")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("cause", "name", "was", "is now"):
        table.add_column(column)
    for change in sorted(found.changes, key=lambda change: found.causes.index(change.cause)):
        table.add_row(change.cause, change.name, change.was, change.now)
    out.print(table if found.changes else "the recipes are the same: the same environment rendered different pixels")


def _apart(difference: PixelDifference, pixels: int) -> str:
    """
    >>> _apart(PixelDifference(3, 1, 82.04), 4096)
    '3 of 4096 pixels differ, by 1 of 255 levels at most (PSNR 82.0 dB)'
    """
    ratio = "" if difference.psnr_db is None else f" (PSNR {difference.psnr_db:.1f} dB)"
    return f"{difference.pixels} of {pixels} pixels differ, by {difference.levels} of 255 levels at most{ratio}"
