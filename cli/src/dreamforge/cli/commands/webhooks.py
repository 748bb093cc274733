"""`dreamforge webhooks`: where events of jobs are sent, and what became of them. It asks the gateway."""

from typing import Annotated, Any

import typer

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.client.gateway import Json as JsonObject
from dreamforge.cli.command_group import GatewayGroup
from dreamforge.cli.console import Json, emit, err, out, run
from dreamforge.cli.tables import table_of
from dreamforge.runtime import ids

app = GatewayGroup("Send events of jobs to other servers, signed as Standard Webhooks says.")
Id = Annotated[str, typer.Argument(help="The id in `dreamforge webhooks list`.")]
PATH = "/v1/webhooks"


@app.command()
def create(
    url: Annotated[str, typer.Argument(help="Where the events are sent: https://...")],
    kind: Annotated[
        list[str] | None,
        typer.Option(help="Kind of event, as job.succeeded; repeat it for several. Default: the three ends of a job."),
    ] = None,
    job: Annotated[str | None, typer.Option(help="Only events of this job; it ends with it.")] = None,
    name: Annotated[str, typer.Option(help="What it is for.")] = "",
    json: Json = False,
) -> None:
    """Create a webhook and print its secret: this once. It gets what happens from now on.

    Example: dreamforge webhooks create https://shop.example/hook --kind job.succeeded --kind job.failed
    """
    body: JsonObject = {"url": url, "name": name} | ({"kinds": kind} if kind else {}) | ({"job_id": job} if job else {})
    _print_secret(run(_write("POST", PATH, body, key=ids.new_id())), json=json)


@app.command("list")
def list_webhooks(json: Json = False) -> None:
    """List the webhooks of the tenant that send."""
    answer = run(_read(PATH))
    if json:
        emit(answer)
        return
    table = table_of("webhook", "url", "kinds", "job", "name", "failing", "parked")
    for each in answer["webhooks"]:
        counts = (str(each["failing_jobs"]), str(each["parked"]))
        kinds = ", ".join(each["kinds"])
        table.add_row(each["webhook_id"], each["url"], kinds, each["job_id"] or "every", each["name"], *counts)
    out.print(table)


@app.command()
def show(webhook: Id, json: Json = False) -> None:
    """Show a webhook, until when each of its secrets signs, and how its deliveries go."""
    answer = run(_read(f"{PATH}/{webhook}"))
    if json:
        emit(answer)
        return
    for name, value in answer.items():
        shown = ", ".join(str(each or "no end") for each in value) if isinstance(value, list) else value
        out.print(f"{name.replace('_', ' ')}: {'' if shown is None else shown}", markup=False)


@app.command()
def rotate(
    webhook: Id,
    overlap_hours: Annotated[float, typer.Option(min=0, max=720, help="How long the earlier secrets sign too.")] = 24.0,
    json: Json = False,
) -> None:
    """Sign with a new secret, printed this once. The earlier ones sign beside it for a while."""
    body = {"overlap_seconds": round(overlap_hours * 3600)}
    _print_secret(run(_write("POST", f"{PATH}/{webhook}/rotate", body)), json=json)


@app.command()
def delete(webhook: Id, json: Json = False) -> None:
    """Send nothing more to a webhook, and drop what waits. It cannot be undone."""
    run(_write("DELETE", f"{PATH}/{webhook}", None))
    if json:
        emit({"webhook_id": webhook, "deleted": True})
        return
    out.print(f"webhook {webhook} is deleted", markup=False)


@app.command()
def replay(
    webhook: Id,
    job: Annotated[str | None, typer.Option(help="Only what is parked of this job.")] = None,
    sequence: Annotated[int | None, typer.Option(min=1, help="With --job: this event, parked or not.")] = None,
    json: Json = False,
) -> None:
    """Send again what is parked, at most 1,000 deliveries at once."""
    body = {"job_id": job, "sequence": sequence}
    answer = run(_write("POST", f"{PATH}/{webhook}/replay", body))
    if json:
        emit(answer)
        return
    out.print(f"{answer['replayed']} deliveries are made again", markup=False)


@app.command()
def deliveries(
    webhook: Id,
    status: Annotated[
        str | None, typer.Option(help="Only these: succeeded, failed, parked, dropped or replayed.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many.")] = 50,
    json: Json = False,
) -> None:
    """Show what happened to deliveries, the newest first."""
    answer = run(_read(f"{PATH}/{webhook}/deliveries", status=status, limit=limit))
    if json:
        emit(answer)
        return
    table = table_of("at", "status", "event", "job", "sequence", "attempts", "what")
    for each in answer["deliveries"]:
        what = each["reason"] or (f"HTTP {each['http_status']}" if each["http_status"] else "")
        again = f"; again at {each['retry_at']}" if each["retry_at"] else ""
        numbers = (str(each["sequence"]), str(each["attempts"] or ""))
        table.add_row(each["at"], each["status"], each["kind"] or "", each["job_id"], *numbers, what + again)
    out.print(table)


def _print_secret(answer: JsonObject, *, json: bool) -> None:
    if json:
        emit(answer)
        return
    out.print(answer["secret"], markup=False, soft_wrap=True)
    err.print(f"webhook {answer['webhook_id']}: keep its secret now, it is not shown again", markup=False)


async def _read(path: str, **query: str | int | None) -> JsonObject:
    async with GatewayClient(cli_settings.load()) as gateway:
        return await gateway.read(path, **query)


async def _write(method: str, path: str, body: Any, key: str | None = None) -> JsonObject:  # Any: JSON
    async with GatewayClient(cli_settings.load()) as gateway:
        return await gateway.write(method, path, body, key)
