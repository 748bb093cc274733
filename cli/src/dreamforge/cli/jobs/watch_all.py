"""Watches all jobs of a tenant live: a line for each event, as text or as JSON."""

import json
from collections.abc import Sequence
from contextlib import aclosing

from httpx_sse import ServerSentEvent
from rich.text import Text

from dreamforge.cli.client.gateway import GatewayClient
from dreamforge.cli.console import emit_line, err, out
from dreamforge.cli.failure import CommandError, Exit
from dreamforge.cli.jobs.event_descriptions import EVENT_COLOURS, describe_event
from dreamforge.cli.next_command import next_command
from dreamforge.client.events import event_of
from dreamforge.contracts.events import ERASURE_EVENTS, JOB_EVENTS, JobArchived, StepProgressed

STEP = StepProgressed.TOKEN
NAMES = tuple(each.TOKEN for each in JOB_EVENTS if each not in (*ERASURE_EVENTS, JobArchived))
"""The events that a tenant is told, beside steps."""


def wanted_names(only: str | None, *, steps: bool) -> tuple[str, ...]:
    """The names to ask for; steps come where they are named or asked for.

    Errors: CommandError for a name that no event has.

    >>> wanted_names("failed, succeeded", steps=True)
    ('failed', 'succeeded', 'step')
    """
    names = tuple(each.strip() for each in only.split(",")) if only is not None else NAMES
    if unknown := [each for each in names if each not in (*NAMES, STEP)]:
        what = f"--only names {unknown[0]!r}, which is no event"
        raise CommandError(what, Exit.REFUSED, hint=f"name some of {', '.join((*NAMES, STEP))}")
    return (*names, STEP) if steps and STEP not in names else names


async def watch_all(gateway: GatewayClient, names: Sequence[str], after: str, options: str, *, as_json: bool) -> None:
    """Show events until cancelled; says then how to go on after the last one, with the same `options`."""
    last_id = after
    if not as_json:
        err.print(f"watching all jobs of tenant {gateway.tenant}; Ctrl-C ends it", style="dim")
    try:
        async with aclosing(gateway.tenant_events(names, after)) as messages:
            async for message in messages:
                show_json(message) if as_json else show_line(message)
                last_id = message.id
    finally:
        if last_id:
            command = next_command(f"jobs watch-all --after {last_id}{options}")
            err.print(f"to go on from here: {command}", style="dim", soft_wrap=True)


def show_json(message: ServerSentEvent) -> None:
    """An event as it was received."""
    emit_line({"id": message.id, "event": message.event, "data": json.loads(message.data)})


def show_line(message: ServerSentEvent) -> None:
    """An event for people; flushed, because a reader of the pipe may wait for it."""
    out.print(line_of(message), soft_wrap=True)
    out.file.flush()


def line_of(message: ServerSentEvent) -> Text:
    """An event on one line: time, name, job, description."""
    data, event = json.loads(message.data), event_of(message)
    time = f"{event.at:%Y-%m-%d %H:%M:%S}.{event.at.microsecond // 1000:03}" if event else " " * 23
    name = Text(f"{message.event:<16}", style=EVENT_COLOURS.get(message.event, ""))
    description = describe_event(event) if event else "of a newer release: `--json` shows it"
    return Text.assemble(time, "  ", name, "  ", data["job_id"], "  ", description)
