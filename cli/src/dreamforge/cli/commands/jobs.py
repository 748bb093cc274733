"""`dreamforge jobs`: list, show, watch, cancel, retry, hold, reprioritise and explain jobs."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.client.gateway import Json as JsonObject
from dreamforge.cli.command_group import GatewayGroup
from dreamforge.cli.commands import deletion
from dreamforge.cli.console import Json, emit, one_line, out, run
from dreamforge.cli.jobs.forecast_text import forecast_text
from dreamforge.cli.jobs.job_reference import HELP, job_id_of
from dreamforge.cli.next_command import next_command
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.jobs.status import TERMINAL
from dreamforge.contracts.readable_sizes import readable_sizes
from dreamforge.runtime import clock

app = GatewayGroup("List, show, watch, cancel, retry, hold, release, explain and delete jobs.")
JobId = Annotated[str, typer.Argument(metavar="JOB", help=HELP)]
# Widths in `jobs list` of id, status and age, and of the space between the five columns. The prompt gets the rest.
OTHER_COLUMNS = 36 + 9 + 6 + 4 * 2
# As `dreamforge.cli.jobs.watch_all.NAMES`, whose import the help does not wait for.
EVENTS = (
    "requested, assigned, started, artifact, attempt-failed, succeeded, failed, cancel-requested, cancelled, warned, "
    "held, released, priority-changed; or step"
)
STATUS_COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan"}


@app.command("list")
def list_jobs(
    status: Annotated[str | None, typer.Option(help="Only those queued, running, succeeded ...")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=200, help="How many, newest first.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="The next_cursor of an earlier page.")] = None,
    json: Json = False,
) -> None:
    """Show the newest jobs.

    Example: dreamforge jobs list --status failed --json
    """
    run(_list(cli_settings.load(), {"status": status, "limit": limit, "cursor": cursor}, json=json))


async def _list(settings: CliSettings, query: dict[str, str | int | None], *, json: bool) -> None:
    async with GatewayClient(settings) as gateway:
        page = await gateway.read("/v1/jobs", **query)
    if json:
        emit(page)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("job", "status", "age", "model"):
        table.add_column(column, no_wrap=True)
    models = [f"{job['request']['model_id']}/{job['request']['preset']}" for job in page["jobs"]]
    left = out.width - OTHER_COLUMNS - max(map(len, models), default=0)
    table.add_column("prompt", no_wrap=True, overflow="ellipsis", max_width=max(8, left))
    now = clock.now()
    for job, model in zip(page["jobs"], models, strict=True):
        age_seconds = (now - datetime.fromisoformat(job["requested_at"])).total_seconds()
        prompt = one_line(job["request"]["prompt"])
        table.add_row(job["job_id"], coloured(job["status"]), age(age_seconds), model, prompt)
    out.print(table)
    if page["next_cursor"]:
        same = [f"--{name} {query[name]}" for name in ("status", "limit") if query[name] is not None]
        options = " ".join([*same, f"--cursor {page['next_cursor']}"])
        command = next_command(f"jobs list {options}")
        out.print(f"more: {command}", style="dim", soft_wrap=True)


def age(seconds: float) -> str:
    """How long ago, in the largest unit that fits.

    >>> age(42), age(150), age(7300), age(200_000)
    ('42 s', '2 min', '2 h', '2 d')
    """
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"


def coloured(status: str) -> Text:
    """A status in its colour."""
    return Text(status, style=STATUS_COLOURS.get(status, ""))


@app.command()
def show(job_id: JobId, json: Json = False) -> None:
    """Show one job: its status, attempts and images."""
    run(_show(cli_settings.load(), job_id, json=json))


async def _show(settings: CliSettings, job_id: str, *, json: bool) -> None:
    async with GatewayClient(settings) as gateway:
        job = await gateway.job(await job_id_of(gateway, job_id))
    if json:
        emit(job)
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts_of(job, gateway.absolute):
        table.add_row(name, value)
    out.print(table)


def facts_of(job: JsonObject, absolute: Callable[[str], str]) -> list[tuple[str, str | Text]]:
    """A job as pairs of name and value; `absolute` completes a URL of the reply."""
    request = job["request"]
    size = f"{request['width_px']}x{request['height_px']}"
    facts: list[tuple[str, str | Text]] = [
        ("job", job["job_id"]),
        ("status", coloured(job["status"])),
        ("prompt", request["prompt"]),
        ("model", f"{request['model_id']}/{request['preset']}, {size}, {request['steps']} steps"),
        ("seed", str(request["seed"])),
        ("requested", job["requested_at"]),
        ("finished", job["finished_at"] or ""),
        ("expected", forecast_text(job["forecast"]) if job.get("forecast") else ""),
        ("failure", f"{job['failure_reason']}: {job['failure_message']}" if job["failure_reason"] else ""),
    ]
    facts += [(f"attempt {each['attempt']}", _attempt(each)) for each in job["attempts"]]
    facts += [(f"image {each['index'] + 1}", absolute(each["url"])) for each in job["artifacts"]]
    return [(name, value) for name, value in facts if value]


def _attempt(attempt: JsonObject) -> str:
    reason = f", {attempt['reason']}: {attempt['message']}" if attempt["reason"] else ""
    return f"{attempt['status']} on {attempt['runner_id']}{reason}"


@app.command("watch")
def watch_job(job_id: JobId, json: Json = False) -> None:
    """Watch a job live to its end, whatever its status; save each image when it is finished.

    A job that failed or was cancelled keeps the images that it had finished: this saves them, too.

    With --json, print its events instead, one a line, and save nothing. `dreamforge jobs watch-all` shows those of all.
    """
    run(_watch(cli_settings.load(), job_id, json=json))


async def _watch(settings: CliSettings, job_id: str, *, json: bool) -> None:
    from dreamforge.cli.jobs.result import raise_unless_succeeded, watch_and_save
    from dreamforge.cli.jobs.watch import JsonDisplay, watch

    async with GatewayClient(settings) as gateway:
        job_id = await job_id_of(gateway, job_id)
        if json:
            view = await watch(gateway, job_id, JsonDisplay())
        else:
            view, _ = await watch_and_save(gateway, job_id, settings.output_dir, quiet=False)
    raise_unless_succeeded(job_id, view)


@app.command("watch-all")
def watch_all_jobs(
    only: Annotated[
        str | None, typer.Option(metavar="NAMES", help=f"Only these events, with commas: {EVENTS}.")
    ] = None,
    steps: Annotated[bool, typer.Option("--steps", help="Also each step of jobs that run.")] = False,
    after: Annotated[str, typer.Option(metavar="ID", help="Go on after this event, instead of from now on.")] = "",
    json: Json = False,
) -> None:
    """Watch all jobs of your tenant live: a line for each event, in the order of the log, until Ctrl-C.

    It waits for a gateway that restarts, and goes on without gap or repeat.

    When it ends, it says with which --after the next call goes on. With --json, each event has its id.

    Examples:

      dreamforge jobs watch-all
      dreamforge jobs watch-all --only succeeded,failed,cancelled
      dreamforge jobs watch-all --only succeeded --json | jq --unbuffered -r .data.job_id
    """
    run(_watch_all(cli_settings.load(), only, after, steps=steps, json=json))


async def _watch_all(settings: CliSettings, only: str | None, after: str, *, steps: bool, json: bool) -> None:
    from dreamforge.cli.jobs.watch_all import wanted_names, watch_all

    names = wanted_names(only, steps=steps)
    options = (f" --only {','.join(names)}" if only is not None else " --steps" * steps) + " --json" * json
    async with GatewayClient(settings) as gateway:
        await watch_all(gateway, names, after, options, as_json=json)


@app.command()
def cancel(job_id: JobId, json: Json = False) -> None:
    """Cancel a job; a running job stops within one step."""
    run(_command(cli_settings.load(), job_id, "cancel", "cancellation requested", json=json))


@app.command()
def retry(job_id: JobId, json: Json = False) -> None:
    """Request a failed or cancelled job again, as a new job: same prompt, seeds, priority and deadlines.

    Example: dreamforge jobs watch $(dreamforge jobs retry JOB)
    """
    run(_retry(cli_settings.load(), job_id, json=json))


async def _retry(settings: CliSettings, job_id: str, *, json: bool) -> None:
    from dreamforge.cli.jobs.retry import submission_again

    async with GatewayClient(settings) as gateway:
        accepted = await gateway.submit(await submission_again(gateway, await job_id_of(gateway, job_id)))
    emit(accepted) if json else out.print(accepted["job_id"])


@app.command()
def hold(job_id: JobId, json: Json = False) -> None:
    """Keep a job from being assigned until it is released. A running attempt continues."""
    run(_command(cli_settings.load(), job_id, "hold", "it is assigned to no runner until it is released", json=json))


@app.command()
def release(job_id: JobId, json: Json = False) -> None:
    """Let a held job be assigned again."""
    run(_command(cli_settings.load(), job_id, "release", "it may be assigned", json=json))


@app.command()
def priority(
    job_id: JobId,
    level: Annotated[int, typer.Argument(min=0, max=9, help="0 to 9; 9 is the most urgent.")],
    json: Json = False,
) -> None:
    """Change the priority of a job, from the next plan on."""
    body = {"priority": level}
    run(_command(cli_settings.load(), job_id, "priority", f"its priority is {level}", body, json=json))


async def _command(
    settings: CliSettings, job_id: str, name: str, effect: str, body: JsonObject | None = None, *, json: bool
) -> None:
    async with GatewayClient(settings) as gateway:
        job_id = await job_id_of(gateway, job_id)
        answer = await gateway.command(job_id, name, body)
    if json:
        emit(answer)
        return
    outcome = "it has already ended" if answer["status"] in TERMINAL else effect
    out.print(Text.assemble(job_id, " is ", coloured(answer["status"]), f"; {outcome}"), soft_wrap=True)


@app.command()
def why(job_id: JobId, json: Json = False) -> None:
    """Explain why a job waits, or why it ran on its runner, from the decisions that the scheduler recorded."""
    run(_why(cli_settings.load(), job_id, json=json))


async def _why(settings: CliSettings, job_id: str, *, json: bool) -> None:
    async with GatewayClient(settings) as gateway:
        answer = await gateway.read(f"/v1/jobs/{await job_id_of(gateway, job_id)}/why")
    if json:
        emit(answer)
        return
    out.print(answer["summary"])
    for attempt in answer["attempts"]:
        out.print(f"  attempt {attempt['attempt']}: {attempt['summary']}")
        _candidates(attempt["decision"]["candidates"])
    if waiting := answer["waiting"]:
        out.print(f"  {waiting['ahead']} waiting jobs are ahead")
        _candidates(waiting["candidates"])


def _candidates(candidates: list[JsonObject]) -> None:
    for each in candidates:
        verdict = each["refused"] or f"{each['score']}: {', '.join(each['reasons'])}"
        out.print(f"    {each['runner_id']:<16} {readable_sizes(verdict)}", soft_wrap=True)


deletion.add_to(app)
