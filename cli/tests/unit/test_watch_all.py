"""A line for each event of all jobs, and the names of those that are wanted."""

import json

import pytest
from httpx_sse import ServerSentEvent

from dreamforge.cli.commands.jobs import EVENTS
from dreamforge.cli.failure import CommandError
from dreamforge.cli.jobs.watch_all import NAMES, STEP, line_of, wanted_names

AT = "2026-01-31T12:00:00.250000Z"


def message(name: str, **fields: object) -> ServerSentEvent:
    return ServerSentEvent(name, json.dumps({"job_id": "j-1", "sequence": 7, **fields}), "7-0", None)


def test_the_help_names_every_event_that_can_be_asked_for() -> None:
    assert EVENTS.replace("; or", ",").split(", ") == [*NAMES, STEP]


def test_steps_come_only_where_they_are_asked_for() -> None:
    assert STEP not in wanted_names(None, steps=False)
    assert STEP in wanted_names(None, steps=True)
    assert wanted_names("step,failed", steps=True) == ("step", "failed")


@pytest.mark.parametrize("only", ["suceeded", "", "failed,", "archived"])
def test_a_name_that_no_event_has_is_refused_with_those_that_there_are(only: str) -> None:
    with pytest.raises(CommandError) as refused:
        wanted_names(only, steps=False)
    assert "priority-changed" in refused.value.hint


def test_an_event_is_one_line_also_where_only_a_newer_release_knows_it() -> None:
    known = message("failed", type="dreamforge.job.failed.v1", at=AT, reason="run_deadline", message="too late")
    assert str(line_of(known)) == "2026-01-31 12:00:00.250  failed            j-1  run_deadline: too late"
    assert "newer release" in str(line_of(message("promoted", type="dreamforge.job.promoted.v1", at=AT)))
