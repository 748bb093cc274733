"""`dreamforge generate`: a prompt in, a picture out."""

import asyncio
import re
from pathlib import Path
from typing import Annotated

import typer

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.console import Json, emit, err, out, run
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.gateway import Gateway
from dreamforge.cli.gateway import Json as JsonObject
from dreamforge.cli.pictures import save_pictures
from dreamforge.cli.progress import JobView
from dreamforge.cli.watch import Silent, display_on, line_of, watch

SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")


def generate(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")],
    model: Annotated[str | None, typer.Option(help="Model id; `dreamforge models list` shows them.")] = None,
    preset: Annotated[str | None, typer.Option(help="The model's preset that fills in what you leave out.")] = None,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Size in pixels, for example 512x512.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="How closely to follow the prompt.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same picture; chosen for you without.")] = None,
    images: Annotated[int, typer.Option("--images", "-n", help="How many pictures, each with the next seed.")] = 1,
    negative: Annotated[str, typer.Option(help="What the picture must not show.")] = "",
    priority: Annotated[int, typer.Option(help="0 to 9, 9 is the most urgent.")] = 5,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the pictures; out/.")] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the job's id and leave.")] = False,
    json: Json = False,
) -> None:
    """Paint a prompt, watch it live, save the pictures.

    Without a size, steps or guidance the model's preset decides. Ctrl-C stops watching, not the job.

    Examples:

      dreamforge generate "a lighthouse at dawn"
      dreamforge generate "a fox" --size 256x256 --steps 30 --seed 7 --images 4 -o foxes
      dreamforge jobs watch $(dreamforge generate "a fox" --no-wait)
    """
    body: JsonObject = {
        "prompt": prompt,
        "negative_prompt": negative,
        "model_id": model,
        "preset": preset,
        "steps": steps,
        "guidance_scale": guidance,
        "seed": seed,
        "images": images,
        "priority": priority,
        **_size(size),
    }
    settings = cli_settings.load()
    said = {name: value for name, value in body.items() if value is not None}
    run(_generate(settings, said, None if no_wait else output or settings.output_dir, json=json))


def _size(text: str | None) -> dict[str, int]:
    """Width and height. Errors: CommandError that shows how a size is written."""
    if text is None:
        return {}
    match = SIZE.fullmatch(text.lower())
    if match is None:
        raise CommandError(f"--size is {text!r}", Exit.REFUSED, hint="write it as WIDTHxHEIGHT, for example 512x768")
    return {"width_px": int(match[1]), "height_px": int(match[2])}


async def _generate(settings: cli_settings.CliSettings, body: JsonObject, folder: Path | None, *, json: bool) -> None:
    async with Gateway(settings) as gateway:
        accepted = await gateway.submit(body)
        job_id = accepted["job_id"]
        if folder is None:
            emit(accepted) if json else out.print(job_id)
            return
        view, paths = await paint(gateway, job_id, folder, quiet=json)
        if json:
            emit({"job": await gateway.job(job_id), "files": [str(path) for path in paths]})
        raise_unless_succeeded(job_id, view)


async def paint(gateway: Gateway, job_id: str, folder: Path, *, quiet: bool) -> tuple[JobView, list[Path]]:
    """Watch a job to its end, then save what it made; shown on stderr unless `quiet`."""
    if quiet:
        view = await watch(gateway, job_id, Silent())
    else:
        err.print(f"job {job_id}", style="dim")
        view = await _watched(gateway, job_id)
    if view.status != "succeeded":
        return view, []
    paths = await save_pictures(gateway, await gateway.job(job_id), folder)
    if not quiet:
        for path in paths:
            out.print(str(path), soft_wrap=True)
    return view, paths


async def _watched(gateway: Gateway, job_id: str) -> JobView:
    """Watch on stderr; whoever stops watching is told that the job goes on."""
    try:
        with display_on(err) as display:
            return await watch(gateway, job_id, display)
    except asyncio.CancelledError:
        err.print(f"the job goes on: dreamforge jobs watch {job_id} (or jobs cancel)", soft_wrap=True)
        raise


def raise_unless_succeeded(job_id: str, view: JobView) -> None:
    """Errors: CommandError with the job's own reason."""
    if view.status != "succeeded":
        facts = {"job": job_id}
        hint = f"dreamforge jobs why {job_id} tells more, dreamforge events replay --job {job_id} everything"
        raise CommandError(f"the job ended: {line_of(view)}", Exit.JOB_ENDED, facts, hint)
