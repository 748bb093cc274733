"""`dreamforge generate`: a prompt in, a picture out."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.gateway import Gateway
from dreamforge.cli.client.gateway import Json as JsonObject
from dreamforge.cli.console import Json, emit, err, out, run
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.jobs import request_options
from dreamforge.cli.jobs.pictures import save_pictures
from dreamforge.cli.jobs.progress import JobView
from dreamforge.cli.jobs.watch import Silent, display_on, line_of, watch

FROM = "Starting from pictures (a file, or the id of an artifact)"
PICTURE = "FILE|ARTIFACT"
HOW = "How it is painted"


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
    sampler: Annotated[str | None, typer.Option(help="euler, dpmpp_2m, ...", rich_help_panel=HOW)] = None,
    lora: Annotated[
        list[str] | None, typer.Option(metavar="ID[:WEIGHT]", help="A LoRA; may be repeated.", rich_help_panel=HOW)
    ] = None,
    upscale: Annotated[
        float | None, typer.Option(help="Second pass at so many times the size.", rich_help_panel=HOW)
    ] = None,
    init_image: Annotated[
        Path | None, typer.Option(metavar=PICTURE, help="Picture to start from.", rich_help_panel=FROM)
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(metavar=PICTURE, help="What to paint anew: white in this picture.", rich_help_panel=FROM),
    ] = None,
    strength: Annotated[
        float | None, typer.Option(help="How much of it is painted over, 0 to 1.", rich_help_panel=FROM)
    ] = None,
    control: Annotated[
        str | None, typer.Option(metavar="ID[:SCALE]", help="A ControlNet.", rich_help_panel=FROM)
    ] = None,
    control_image: Annotated[
        Path | None, typer.Option(metavar=PICTURE, help="The picture it follows.", rich_help_panel=FROM)
    ] = None,
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
      dreamforge generate "the same at night" --init-image fox.png --strength 0.5
      dreamforge generate "the same in winter" --init-image 01a20638-499f-7288-a6c2-5e668ec21e03-1-0
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
        "sampler": sampler,
        "loras": request_options.loras(lora) if lora else None,
        "upscale": {"factor": upscale} if upscale is not None else None,
        "strength": strength,
        **request_options.size(size),
    }
    pictures = Pictures(init_image, mask, control, control_image)
    settings = cli_settings.load()
    said = {name: value for name, value in body.items() if value is not None}
    run(_generate(settings, said, pictures, None if no_wait else output or settings.output_dir, json=json))


@dataclass(frozen=True, slots=True)
class Pictures:
    """What a request starts from: files, or artifacts by their ids."""

    init_image: Path | None
    mask: Path | None
    control: str | None
    control_image: Path | None

    async def fields(self, gateway: Gateway) -> JsonObject:
        """Upload the files; the fields that name them all. Errors: CommandError, ProblemError."""
        named = {"init_image": self.init_image, "mask_image": self.mask}
        hashes = {
            name: await request_options.picture(gateway, path) for name, path in named.items() if path is not None
        }
        return {**hashes, **await request_options.control(gateway, self.control, self.control_image)}


async def _generate(
    settings: cli_settings.CliSettings, body: JsonObject, pictures: Pictures, folder: Path | None, *, json: bool
) -> None:
    async with Gateway(settings) as gateway:
        accepted = await gateway.submit(body | await pictures.fields(gateway))
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
