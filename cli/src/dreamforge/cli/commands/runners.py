"""`dreamforge runners` (or `runner`): lists them; `add` and `remove` are in `runner_users`, `join` in `runner_join`."""

import typer

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.client.gateway import Json as JsonObject
from dreamforge.cli.command_group import GatewayGroup
from dreamforge.cli.commands import runner_join, runner_users
from dreamforge.cli.console import Json, emit, out, run
from dreamforge.cli.tables import table_of

app = GatewayGroup("List runners, add and remove them, and join a stack on another machine.")
typer.Typer.command(app)(runner_users.add)  # these ask no gateway
typer.Typer.command(app)(runner_join.join)
typer.Typer.command(app)(runner_users.remove)


async def _read(path: str) -> JsonObject:
    async with GatewayClient(cli_settings.load()) as gateway:
        return await gateway.read(path)


@app.command("list")
def list_runners(json: Json = False) -> None:
    """List every runner with its device, load and models."""
    answer = run(_read("/v1/runners"))
    if json:
        emit(answer)
        return
    table = table_of("runner", "status", "renderer", "device", "busy", "free", "models", "memory learnt", "note")
    for runner in answer["runners"]:
        heartbeat = runner["heartbeat"]
        busy = f"{len(heartbeat['active'])} of {runner['slots']}" if heartbeat else ""
        free = f"{heartbeat['free_bytes'] / 2**30:.1f} GiB" if heartbeat else ""
        device = runner["device"]["name"]
        models = ", ".join(runner["model_ids"])
        row = (runner["runner_id"], status_of(runner), runner["renderer"], device, busy, free, models)
        table.add_row(*row, memory_of(heartbeat), health_of(heartbeat)["reason"])
    out.print(table)


def status_of(runner: JsonObject) -> str:
    """What a runner does now: by the log, and by its heartbeat while it is online.

    >>> status_of({"status": "online", "heartbeat": {"draining": True, "starting": True}})
    'starting'
    >>> status_of({"status": "online", "heartbeat": {"draining": True, "health": {"state": "fenced"}}})
    'fenced'
    """
    heartbeat = runner["heartbeat"]
    if runner["status"] != "online":
        return str(runner["status"])
    if heartbeat is None:
        return "silent"
    if (state := health_of(heartbeat)["state"]) == "fenced" or (state == "degraded" and not heartbeat["draining"]):
        return str(state)
    return "starting" if heartbeat.get("starting") else "draining" if heartbeat["draining"] else "online"


def health_of(heartbeat: JsonObject | None) -> JsonObject:
    """What a runner says of its device; one of an older release says nothing.

    >>> health_of(None)["state"]
    'healthy'
    """
    return {"state": "healthy", "reason": ""} | ((heartbeat or {}).get("health") or {})


def memory_of(heartbeat: JsonObject | None) -> str:
    """What a runner has seen renders need, a line for each model and size.

    >>> print(memory_of({"memory": {"peaks": {"m 64x64": {"": 2**30, "small": 2**29}}, "exhausted": ["m 128x128"],
    ...     "further": {"m 64x64": {"": 2**28}}, "rungs": {"m 64x64": ["offload_model"]}}}))
    m 128x128: ran out of memory, nothing left to try
    m 64x64: needs 1.0 GiB and 0.2 GiB for each further image, 0.5 GiB in tier small; offload_model
    """
    memory = (heartbeat or {}).get("memory") or {}
    peaks, rungs, exhausted = memory.get("peaks", {}), memory.get("rungs", {}), memory.get("exhausted", [])
    lines = []
    for shape in sorted({*peaks, *rungs, *exhausted}):
        further = memory.get("further", {}).get(shape, {})
        needs = ", ".join(_needed(tier, peak, further.get(tier)) for tier, peak in peaks.get(shape, {}).items())
        words = [f"needs {needs}"] if needs else []
        words += [", ".join(rungs[shape])] if shape in rungs else []
        words += ["ran out of memory, nothing left to try"] if shape in exhausted else []
        lines.append(f"{shape}: {'; '.join(words)}")
    return "\n".join(lines)


def _needed(tier: str, peak_bytes: int, further_bytes: int | None) -> str:
    further = "" if further_bytes is None else f" and {further_bytes / 2**30:.1f} GiB for each further image"
    return f"{peak_bytes / 2**30:.1f} GiB{further}" + (f" in tier {tier}" if tier else "")
