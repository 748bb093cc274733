"""`dreamforge tenants`: what each tenant may use and uses, and its share. It asks the gateway, as an administrator."""

import math
from typing import Annotated, Any
from urllib.parse import quote

import typer

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.client.gateway import Json as JsonObject
from dreamforge.cli.command_group import GatewayGroup
from dreamforge.cli.commands.keys import revoke_keys_of
from dreamforge.cli.console import Json, emit, out, run
from dreamforge.cli.tables import table_of
from dreamforge.contracts.quotas import WEIGHT_MAX, Quota
from dreamforge.contracts.readable_sizes import readable_size
from dreamforge.contracts.request.values import Determinism
from dreamforge.contracts.tenants import Metadata

app = GatewayGroup("Show and set quotas and weights of tenants; where keys are asked for, with one of scope admin.")
NONE = "none"
Name = Annotated[str, typer.Argument(help="The tenant that an API key names.")]


def _number(text: str) -> str:
    """A quota as it is given. Errors: BadParameter."""
    try:
        if text != NONE and not 0 <= float(text) < math.inf:
            raise ValueError
    except ValueError:
        raise typer.BadParameter(f"{text!r} must be a number, or {NONE} for the quota of the installation") from None
    return text


def _option(help: str) -> Any:  # Any: as typer declares
    return typer.Option(parser=_number, metavar="N", help=help)


@app.command("list")
def list_tenants(json: Json = False) -> None:
    """List the tenants that were configured; every other one has the quotas of the installation and weight 1."""
    answer = run(_read("/v1/tenants"))
    if json:
        emit(answer)
        return
    if not answer["tenants"]:
        out.print("no tenant was configured: each has the quotas of the installation (FORGE_QUOTA_*) and weight 1")
        return
    table = table_of("tenant", "weight", *(name_of(quota) for quota in Quota))
    for each in answer["tenants"]:
        table.add_row(each["tenant"], str(each["weight"]), *(usage_of(quota) for quota in each["quotas"]))
    out.print(table)


@app.command()
def show(name: Name, json: Json = False) -> None:
    """Show what a tenant may use, and what it uses now."""
    _print(run(_read(f"/v1/tenants/{quote(name, safe='')}")), json=json)


@app.command("set")
def set_quotas(
    name: Name,
    open_jobs: Annotated[str | None, _option("Jobs that are not finished.")] = None,
    pixel_steps_per_hour: Annotated[
        str | None, _option("Pixels times steps times images of the jobs requested in an hour.")
    ] = None,
    stored_bytes: Annotated[str | None, _option("Finished images of its jobs, and its uploads.")] = None,
    streams: Annotated[str | None, _option("Open event streams of one gateway.")] = None,
    requests_per_second: Annotated[str | None, _option("Requests with API keys, of one gateway.")] = None,
    uploads: Annotated[str | None, _option("Uploads that one gateway receives at once.")] = None,
    weight: Annotated[int | None, typer.Option(min=1, max=WEIGHT_MAX, help="Share beside other tenants.")] = None,
    metadata: Annotated[
        Metadata | None, typer.Option(help="none: downloads are without recipes where a request does not ask for them.")
    ] = None,
    determinism: Annotated[
        Determinism | None, typer.Option(help="Of requests that do not say: strict renders each image alone.")
    ] = None,
    json: Json = False,
) -> None:
    """Set quotas, the weight and the downloads of a tenant. A quota of `none` is that of the installation again.

    Example: dreamforge tenants set studio-a --open-jobs 50 --streams none --weight 2
    """
    given = {
        "open_jobs": open_jobs,
        "pixel_steps_per_hour": pixel_steps_per_hour,
        "stored_bytes": stored_bytes,
        "streams": streams,
        "requests_per_second": requests_per_second,
        "uploads": uploads,
    }
    change: JsonObject = {quota: _value(text) for quota, text in given.items() if text is not None}
    others = {"weight": weight, "metadata": metadata, "determinism": determinism}
    change |= {key: value for key, value in others.items() if value is not None}
    _print(run(_configure(name, change)), json=json)


def _value(text: str) -> int | float | None:
    """A number as JSON has it: a whole one without a point, also where it was given as 1e9."""
    if text == NONE:
        return None
    number = float(text)
    return int(text) if text.isdecimal() else int(number) if number.is_integer() else number


async def _read(path: str) -> JsonObject:
    async with GatewayClient(cli_settings.load()) as gateway:
        return await gateway.read(path)


async def _configure(name: str, change: JsonObject) -> JsonObject:
    async with GatewayClient(cli_settings.load()) as gateway:
        return await gateway.configure_tenant(name, change)


def _print(answer: JsonObject, *, json: bool) -> None:
    if json:
        emit(answer)
        return
    table = table_of("quota", "used", "limit", "")
    for each in answer["quotas"]:
        used, limit = (_shown(each["quota"], each[name]) for name in ("used", "limit"))
        whose = "" if each["limit"] is None else "its own" if each["own"] else "of the installation"
        again = f", room from {each['frees_at']}" if each["frees_at"] else ""
        table.add_row(name_of(each["quota"]), used, limit or "none", whose + again)
    bare = ", downloads without recipes" if answer["metadata"] == "none" else ""
    out.print(f"tenant {answer['tenant']}, weight {answer['weight']}{bare}", markup=False)
    out.print(table)


def usage_of(each: JsonObject) -> str:
    """A quota in one cell of a table.

    >>> usage_of({"quota": "streams", "used": 1, "limit": 3}), usage_of({"quota": "uploads", "used": 0, "limit": None})
    ('1 of 3', '')
    """
    if each["limit"] is None:
        return ""
    used, limit = (_shown(each["quota"], each[name]) for name in ("used", "limit"))
    return f"{used} of {limit}" if used else limit


def name_of(quota: str) -> str:
    """A quota as a heading.

    >>> name_of("open_jobs")
    'open jobs'
    """
    return quota.replace("_", " ")


def _shown(quota: str, value: float | None) -> str:
    if value is None:
        return ""
    return readable_size(int(value)) if quota == Quota.STORED_BYTES else f"{value:,}"


@app.command()
def erase(
    name: Name,
    keep_keys: Annotated[bool, typer.Option("--keep-keys", help="Leave its API keys valid.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Revoke the API keys of a tenant, and delete every job and upload of it.

    Jobs can be undeleted for a while; uploads and keys cannot. The key that this command uses itself stays valid. Keys
    are revoked in NATS, as `dreamforge keys` does; `--keep-keys` needs the gateway only.
    """
    if not yes:
        kept = "" if keep_keys else ", and revoke its keys"
        typer.confirm(f"Delete every job and upload of tenant {name}{kept}?", abort=True)
    revoked = 0 if keep_keys else run(revoke_keys_of(name))  # first, so that nothing new is made meanwhile
    answer = run(_erase(name)) | {"keys": revoked}
    if json:
        emit(answer)
        return
    said = f"{answer['jobs']} jobs and {answer['uploads']} uploads of {name} are deleted, {revoked} keys revoked"
    out.print(said, markup=False)


async def _erase(name: str) -> JsonObject:
    total: JsonObject = {"tenant": name, "jobs": 0, "uploads": 0}
    async with GatewayClient(cli_settings.load()) as gateway:
        more = True
        while more:
            answer = await gateway.delete(f"/v1/tenants/{quote(name, safe='')}/data")
            total |= {key: total[key] + answer[key] for key in ("jobs", "uploads")}
            more = answer["more"]
    return total
