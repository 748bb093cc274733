"""`dreamforge verify`: what can be checked of a picture file, line by line."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.console import Json, emit, out, run
from dreamforge.cli.failure import CommandError, Exit, exit_code_of
from dreamforge.cli.jobs.artifacts import ARTIFACT_ID
from dreamforge.cli.jobs.job_reference import job_id_of
from dreamforge.cli.jobs.verify import Check, Picture, checks_of_file, checks_of_log, exit_code
from dreamforge.cli.settings import CliSettings
from dreamforge.client.errors import ProblemError
from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.pictures.formats import content_type_of
from dreamforge.contracts.pictures.metadata import PictureMetadata, read_metadata
from dreamforge.contracts.pictures.segments import DamagedPicture

STYLES = {"ok": "green", "does not fit": "red", "cannot be checked": "yellow"}
NOT_FOUND = 404


def verify(
    picture: Annotated[Path, typer.Argument(help="A PNG, JPEG, WebP or AVIF, of ours or of others.")],
    authority: Annotated[
        Path | None, typer.Option(help="PEM file of certificates whose signatures are trusted.")
    ] = None,
    job: Annotated[
        str | None, typer.Option(help="The job or artifact that it is from; default: the one that its signature names.")
    ] = None,
    json: Json = False,
) -> None:
    """Check a picture: mark, signature, recipe, and whether the log has it.

    Each line says ok, does not fit, or cannot be checked. Exit code 0: signature or log fit, and nothing contradicts
    them; 1: something does not fit; 6: neither could be checked.

    Examples:

      dreamforge verify a-fox-8ec21e03-0.png --authority certificates/authority.pem
      dreamforge verify a-fox-8ec21e03-0.png --job last
    """
    settings = cli_settings.load()
    found = _picture(_read(picture), _read(authority).decode("utf-8", "replace") if authority else "")
    checks = (*checks_of_file(found), *run(_log(settings, found, job)))
    code = exit_code(checks)
    if json:
        emit({"checks": [{"name": c.name, "result": c.result, "says": c.says} for c in checks], "exit_code": code})
    else:
        _print(checks)
    raise typer.Exit(code)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandError(f"cannot read {path}: {error.strerror}", Exit.REFUSED) from None


def _picture(data: bytes, authorities: str) -> Picture:
    from dreamforge.runtime.pictures.credentials import read_credentials  # 50 MB, which no other command needs

    content_type = content_type_of(data)
    try:
        metadata, unreadable = read_metadata(data), ""
    except DamagedPicture as error:
        metadata, unreadable = PictureMetadata(content_type), str(error)
    found = read_credentials(data, content_type, authorities) if content_type else None
    return Picture(data, metadata, found, unreadable)


async def _log(settings: CliSettings, picture: Picture, job: str | None) -> tuple[Check, ...]:
    """The checks against the log; without a gateway, why there are none."""
    named = job or picture.stated.get("job_id")
    if named is None:
        return tuple(checks_of_log(picture, None, None))
    try:
        async with GatewayClient(settings) as gateway:
            match = ARTIFACT_ID.fullmatch(str(named))
            job_id = match["job_id"] if match else await job_id_of(gateway, str(named))
            found = await gateway.job(job_id)
    except ProblemError as error:
        if error.status == NOT_FOUND:
            return tuple(checks_of_log(picture, None, str(named)))
        return (Check("log", "cannot be checked", str(error)),)
    except ForgeError as error:
        if exit_code_of(error) is not Exit.UNAVAILABLE:
            raise
        return (Check("log", "cannot be checked", str(error)),)
    return await asyncio.to_thread(lambda: tuple(checks_of_log(picture, found, job_id)))


def _print(checks: tuple[Check, ...]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    for check in checks:
        table.add_row(Text(check.name), Text(check.result, STYLES[check.result]), Text(check.says))
    out.print(table)
