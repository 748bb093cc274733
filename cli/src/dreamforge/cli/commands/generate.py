"""`dreamforge generate`: submits a request, watches the job and saves its images."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.batches.options import batch_of, grid_of
from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.client.gateway import Json as JsonObject
from dreamforge.cli.console import Json, emit, err, out, run
from dreamforge.cli.jobs import request_options
from dreamforge.cli.jobs.declared_options import FROM_IMAGES, Given, fields_of, uploaded_fields, with_request_options
from dreamforge.cli.jobs.forecast_text import batch_forecast_text, forecast_text
from dreamforge.contracts.request.parameters import PICTURE

BATCH = "Several jobs as one batch"


@with_request_options
def generate(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")],
    given: Given,
    size: Annotated[str | None, typer.Option(metavar="WxH", help="Size in pixels, for example 512x512.")] = None,
    control_image: Annotated[
        list[Path] | None,
        typer.Option(
            metavar=PICTURE, help="The image that a ControlNet follows, in their order.", rich_help_panel=FROM_IMAGES
        ),
    ] = None,
    template: Annotated[
        bool,
        typer.Option(
            "--template", help="The prompts are templates: {red|blue}, {2$$a|b|c}, __animal__.", rich_help_panel=BATCH
        ),
    ] = False,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=V1,V2", help="A job for each value of a parameter; may be repeated.", rich_help_panel=BATCH
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=1, help="So many random prompts of the template; default: all.", rich_help_panel=BATCH),
    ] = None,
    template_seed: Annotated[
        int | None, typer.Option(min=0, help="Repeats the random prompts.", rich_help_panel=BATCH)
    ] = None,
    priority: Annotated[int, typer.Option(help="0 to 9, 9 is the most urgent.")] = 5,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the images; default: out/.")] = None,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Print the job's id and exit.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the request and say where and when it would run; make no job.")
    ] = False,
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
      dreamforge generate "a {red|blue} fox" --template --grid steps=10,20 --grid guidance=3,7
      dreamforge jobs watch $(dreamforge generate "a fox" --no-wait)
      dreamforge generate "a fox" --images 8 --dry-run
      dreamforge generate "a fox" --grid steps=10,20,30 --dry-run
    """
    body = {"prompt": prompt, "priority": priority, **fields_of(given), **request_options.size(size)}
    settings = cli_settings.load()
    folder = None if no_wait else output or settings.output_dir
    axes = grid_of(grid or ())
    batch = None
    if template or axes or samples:
        batch = partial(batch_of, grid=axes, template=template, samples=samples, seed=template_seed)
    if dry_run:
        run(_preview(settings, body, given, control_image, batch, json=json))
        return
    run(_generate(settings, body, given, control_image, folder, batch, json=json))


async def _generate(
    settings: cli_settings.CliSettings,
    body: JsonObject,
    given: Given,
    control_image: list[Path] | None,
    folder: Path | None,
    batch: Callable[[JsonObject], JsonObject] | None,
    *,
    json: bool,
) -> None:
    """Without a folder, do not wait. `batch` makes the body of a batch of that of a job; None: it is one job."""
    async with GatewayClient(settings) as gateway:
        body |= await _with_images(gateway, given, control_image)
        if batch is not None:
            await _generate_batch(gateway, batch(body), folder, json=json)
            return
        accepted = await gateway.submit(body)
        job_id = accepted["job_id"]
        if folder is None:
            emit(accepted) if json else out.print(job_id)
            return
        from dreamforge.cli.jobs.result import raise_unless_succeeded, watch_and_save

        view, paths = await watch_and_save(gateway, job_id, folder, quiet=json)
        if json:
            emit({"job": await gateway.job(job_id), "files": [str(path) for path in paths]})
        raise_unless_succeeded(job_id, view)


async def _with_images(gateway: GatewayClient, given: Given, control_image: list[Path] | None) -> JsonObject:
    """The parameters that name images, which are uploaded."""
    images = await uploaded_fields(gateway, given)
    images |= await request_options.control(gateway, given["control"], control_image)
    return images | await request_options.image_prompts(gateway, given["image_prompts"])


async def _preview(
    settings: cli_settings.CliSettings,
    body: JsonObject,
    given: Given,
    control_image: list[Path] | None,
    batch: Callable[[JsonObject], JsonObject] | None,
    *,
    json: bool,
) -> None:
    async with GatewayClient(settings) as gateway:
        body |= await _with_images(gateway, given, control_image)
        if batch is not None:
            found = await gateway.write("POST", "/v1/batches?dry_run=true", batch(body))
        else:
            found = await gateway.write("POST", "/v1/jobs?dry_run=true", body)
    if json:
        emit(found)
        return
    request = found["request"]
    size, images = f"{request['width_px']}x{request['height_px']}", request["images"]
    model = f"{request['model_id']}/{request['preset']}"
    out.print(f"{model}, {size}, {request['steps']} steps, {images} image{'s' if images > 1 else ''}")
    if batch is not None:
        out.print(f"the first of {found['jobs']} jobs")
    if not found["forecast"]:
        out.print(f"no forecast: {found['reason']}")
    else:
        out.print(forecast_text(found["forecast"]) if batch is None else batch_forecast_text(found))


async def _generate_batch(gateway: GatewayClient, body: JsonObject, folder: Path | None, *, json: bool) -> None:
    accepted = await gateway.submit_batch(body)
    batch_id = accepted["batch_id"]
    if folder is None:
        emit(accepted) if json else out.print(batch_id)
        return
    if not json:
        err.print(f"batch {batch_id} of {accepted['jobs']} jobs", style="dim")
    from dreamforge.cli.batches.watch import watch_batch

    paths = await watch_batch(gateway, batch_id, folder, as_json=json)
    if json:
        emit({"batch": await gateway.read(f"/v1/batches/{batch_id}"), "files": [str(path) for path in paths]})
