"""`dreamforge events parked`: lists messages that a service could not read, and settles them."""

from typing import Annotated

import typer
from rich.table import Table

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.event_log import connect_bus, read_events
from dreamforge.cli.client.operator import operator
from dreamforge.cli.console import Json, emit, out, run
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.installation_events import ParkedSettled
from dreamforge.contracts.log.envelope import Recorded, seal
from dreamforge.contracts.log.parking import Parked, unsettled
from dreamforge.contracts.log.streams import PARKED
from dreamforge.runtime import clock, ids
from dreamforge.runtime.log.bus import Bus
from dreamforge.runtime.log.follow import Follower

app = typer.Typer(help="Messages that were set aside: list, retry or drop them.")

SOURCE = "/dreamforge/cli"
Number = Annotated[int, typer.Argument(min=1, help="Number of the message; `events parked` shows it.")]


@app.callback(invoke_without_command=True)
def parked(context: typer.Context, json: Json = False) -> None:
    """List every parked message, with the reason and the number of tries.

    Examples:

      dreamforge events parked
      dreamforge events parked retry 3
      dreamforge events parked drop 3
    """
    if context.invoked_subcommand is not None:
        return
    found = run(_parked(cli_settings.load()))
    if json:
        emit([{"number": each.sequence, "count": each.count, **each.event.model_dump(mode="json")} for each in found])
    elif not found:
        out.print("nothing is parked")
    else:
        out.print(_table(found))


@app.command()
def retry(number: Number) -> None:
    """Read a message again, after its cause was repaired or the service was upgraded."""
    run(_settle(cli_settings.load(), number, "retry"))
    out.print(f"parked message {number} will be read again; it is parked again if that fails")


@app.command()
def drop(number: Number) -> None:
    """Drop a message: it stays in its stream, but is not read again."""
    run(_settle(cli_settings.load(), number, "drop"))
    out.print(f"parked message {number} is dropped")


async def _parked(settings: CliSettings) -> list[Parked]:
    async with connect_bus(settings) as bus:
        return list((await _read(bus)).values())


async def _read(bus: Bus) -> dict[int, Parked]:
    records = [found async for found in read_events(Follower(bus, PARKED.name), until_end=True)]
    return unsettled(record for record in records if isinstance(record, Recorded))


async def _settle(settings: CliSettings, number: int, action: str) -> None:
    async with connect_bus(settings) as bus:
        found = await _read(bus)
        if number not in found:
            known = ", ".join(map(str, found)) or "none"
            raise CommandError(f"no message is parked under {number}", Exit.REFUSED, {"parked": known})
        event = ParkedSettled.model_validate({"at": clock.now(), "parked_sequence": number, "action": action})
        sealed = seal(
            event, entity_id=found[number].event.service, event_id=ids.new_id(), source=SOURCE, actor=operator()
        )
        await bus.js.publish(sealed.subject, sealed.data, headers=sealed.headers)


def _table(found: list[Parked]) -> Table:
    table = Table("number", "parked at", "where", "times", "reason", box=None)
    for each in found:
        event = each.event
        where = f"{event.stream} {event.sequence}\n{event.subject}"
        table.add_row(str(each.sequence), f"{event.at:%Y-%m-%d %H:%M:%S}", where, str(each.count), event.reason)
    return table
