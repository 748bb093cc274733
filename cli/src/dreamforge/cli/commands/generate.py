"""`dreamforge generate`: submits a request, watches the job and saves its images."""

from pathlib import Path
from typing import Annotated

import typer

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.client.gateway import Json as JsonObject
from dreamforge.cli.console import Json, emit, out, run
from dreamforge.cli.jobs import request_options
from dreamforge.cli.jobs.declared_options import FROM_IMAGES, Given, fields_of, uploaded_fields, with_request_options
from dreamforge.cli.jobs.result import raise_unless_succeeded, watch_and_save
from dreamforge.contracts.request.parameters import PICTURE


@with_request_options
def generate(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")],
    given: Given,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Size in pixels, for example 512x512.")] = None,
    control_image: Annotated[
        Path | None,
        typer.Option(metavar=PICTURE, help="The image that the ControlNet follows.", rich_help_panel=FROM_IMAGES),
    ] = None,
    priority: Annotated[int, typer.Option(help="0 to 9, 9 is the most urgent.")] = 5,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the images; default: out/.")] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the job's id and exit.")] = False,
    json: Json = False,
) -> None:
    """Render a prompt, watch it live, save the images.

    The model's preset fills in what you leave out; `dreamforge models list` shows both. Ctrl-C stops watching, but
    not the job.

    Examples:

      dreamforge generate "a lighthouse at dawn"
      dreamforge generate "a fox" --size 256x256 --steps 30 --seed 7 --images 4 -o foxes
      dreamforge generate "the same at night" --init-image fox.png --strength 0.5
      dreamforge generate "the same in winter" --init-image 01a20638-499f-7288-a6c2-5e668ec21e03-1-0
      dreamforge jobs watch $(dreamforge generate "a fox" --no-wait)
    """
    body = {"prompt": prompt, "priority": priority, **fields_of(given), **request_options.size(size)}
    settings = cli_settings.load()
    folder = None if no_wait else output or settings.output_dir
    run(_generate(settings, body, given, control_image, folder, json=json))


async def _generate(
    settings: cli_settings.CliSettings,
    body: JsonObject,
    given: Given,
    control_image: Path | None,
    folder: Path | None,
    *,
    json: bool,
) -> None:
    """Without a folder, do not wait for the job."""
    async with GatewayClient(settings) as gateway:
        images = await uploaded_fields(gateway, given)
        control = await request_options.control(gateway, given["control"], control_image)
        accepted = await gateway.submit(body | images | control)
        job_id = accepted["job_id"]
        if folder is None:
            emit(accepted) if json else out.print(job_id)
            return
        view, paths = await watch_and_save(gateway, job_id, folder, quiet=json)
        if json:
            emit({"job": await gateway.job(job_id), "files": [str(path) for path in paths]})
        raise_unless_succeeded(job_id, view)
