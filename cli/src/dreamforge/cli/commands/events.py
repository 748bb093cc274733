"""`dreamforge events`: prints the log, live or from a position on."""

import re
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from dreamforge.cli import settings as cli_settings
from dreamforge.cli.client.event_log import connect_bus, events_of_job, first_sequence_at, read_events
from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.command_group import GatewayGroup
from dreamforge.cli.commands import parked
from dreamforge.cli.console import Json, emit, emit_line, out, run
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.jobs.event_descriptions import describe_event, event_lines, event_table, service_of
from dreamforge.cli.jobs.job_reference import HELP, JOB_ID, job_id_of
from dreamforge.cli.settings import CliSettings
from dreamforge.contracts.errors import JobNotFound, MalformedEvent
from dreamforge.contracts.log.envelope import Recorded
from dreamforge.runtime import clock
from dreamforge.runtime.log.follow import Follower

app = GatewayGroup("Read the event log.")
app.add_typer(parked.app, name="parked")

AGO = re.compile(r"(\d+)(s|m|h|d)")
AGO_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Stream(StrEnum):
    """The streams of the log."""

    JOBS = "JOBS"
    STEPS = "STEPS"
    FLEET = "FLEET"
    MODELS = "MODELS"
    QUEUES = "QUEUES"
    KEYS = "KEYS"
    AUDIT = "AUDIT"
    TENANTS = "TENANTS"
    WEBHOOKS = "WEBHOOKS"
    DELIVERIES = "DELIVERIES"
    PARKED = "PARKED"


StreamOption = Annotated[Stream, typer.Option(help="Which stream.", case_sensitive=False)]


@app.command()
def tail(stream: StreamOption = Stream.JOBS, json: Json = False) -> None:
    """Print every new event until Ctrl-C.

    Examples:

      dreamforge events tail
      dreamforge events tail --stream STEPS --json | jq .event.step
    """
    run(_print_stream(cli_settings.load(), stream, start=None, until_end=False, json=json))


@app.command()
def replay(
    start: Annotated[
        str, typer.Option("--from", help="A sequence (1200), a time (2026-01-31T12:00Z) or how long ago (10m, 2h).")
    ] = "1",
    job: Annotated[
        str | None,
        typer.Option("--job", metavar="JOB", help=f"Show the events of one job instead, steps included. {HELP}"),
    ] = None,
    stream: StreamOption = Stream.JOBS,
    json: Json = False,
) -> None:
    """Print the log from its start, a sequence or a time.

    Examples:

      dreamforge events replay --from 10m
      dreamforge events replay --job 01a20638-499f-7288-a6c2-5e668ec21e03
    """
    settings = cli_settings.load()
    if job is not None:
        run(_print_job(settings, job, json=json))
    else:
        run(_print_stream(settings, stream, start=parse_start(start, clock.now()), until_end=True, json=json))


def parse_start(text: str, now: datetime, option: str = "--from") -> int | datetime:
    """Where to begin: a sequence or a time (UTC without an offset).

    Errors: CommandError that shows the formats.
    """
    if text.isdecimal():
        return int(text)
    if match := AGO.fullmatch(text):
        return now - timedelta(**{AGO_UNITS[match[2]]: int(match[1])})
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        hint = "write a sequence (1200), a time (2026-01-31T12:00Z) or how long ago (10m, 2h, 1d)"
        raise CommandError(f"{option} is {text!r}", Exit.REFUSED, hint=hint) from None
    return found if found.tzinfo else found.replace(tzinfo=now.tzinfo)


async def _print_job(settings: CliSettings, job_id: str, *, json: bool) -> None:
    from dreamforge.runtime.storage.job_archive import archive_reader

    if JOB_ID.fullmatch(job_id) is None:  # only the gateway knows which one is meant
        async with GatewayClient(settings) as gateway:
            job_id = await job_id_of(gateway, job_id)
    async with connect_bus(settings) as bus:
        recorded = await events_of_job(bus, job_id, archive_reader(settings))
    if not recorded:
        raise JobNotFound(job_id=job_id)
    if json:
        emit([as_json(each) for each in sorted(recorded, key=lambda each: (each.at, each.sequence))])
    else:
        out.print(event_table(event_lines(recorded)))


async def _print_stream(
    settings: CliSettings, stream: Stream, *, start: int | datetime | None, until_end: bool, json: bool
) -> None:
    from dreamforge.runtime.storage.job_archive import whole_objects

    async with connect_bus(settings) as bus:
        sequence = await first_sequence_at(bus, stream, start) if isinstance(start, datetime) else start
        follower = Follower(bus, stream, after_sequence=(sequence or 1) - 1, new_only=sequence is None)
        archive = whole_objects(settings) if until_end else None
        async for found in read_events(follower, until_end=until_end, archive=archive):
            _print(found, json=json)


def _print(found: Recorded | MalformedEvent, *, json: bool) -> None:
    if isinstance(found, MalformedEvent):
        emit_line({"malformed": found.details()}) if json else out.print(str(found), style="red", soft_wrap=True)
    elif json:
        emit_line(as_json(found))
    else:
        out.print(line_of(found), soft_wrap=True)
        out.file.flush()


def line_of(recorded: Recorded) -> str:
    """An event on one line: sequence, time, type, service, entity, description."""
    head = f"{recorded.sequence:>8}  {recorded.at:%Y-%m-%d %H:%M:%S.%f}"[:-3]
    service = service_of(recorded.source)
    return f"{head}  {recorded.event.TOKEN:<16} {service:<10} {recorded.entity_id}  {describe_event(recorded.event)}"


def as_json(recorded: Recorded) -> dict[str, object]:
    """An event with its envelope."""
    return {
        "sequence": recorded.sequence,
        "id": recorded.event_id,
        "type": recorded.event.TYPE,
        "source": recorded.source,
        "subject": recorded.entity_id,
        "event": recorded.event.model_dump(mode="json"),
    }
