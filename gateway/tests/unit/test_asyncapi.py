"""The AsyncAPI document covers every event, on the subject it really has, with references that resolve."""

import re
from pathlib import Path
from typing import Any

import pytest

from dreamforge.contracts.events import GATEWAY_EVENTS, RUNNER_EVENTS, SCHEDULER_EVENTS, Event, JobEvent
from dreamforge.contracts.installation_events import EVENTS
from dreamforge.contracts.log.subjects import subject_of
from dreamforge.gateway.documents.asyncapi import USERS, address_of_kind, document, files, main

REPOSITORY = Path(__file__).parents[3]
GOLDEN = REPOSITORY / "contracts" / "tests" / "unit" / "golden"


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_the_address_is_where_the_event_really_goes(kind: type[Event]) -> None:
    folders = {False: ".", True: "of_runners"} if kind in RUNNER_EVENTS else {False: "."}
    for of_runner, folder in folders.items():
        event = kind.model_validate_json((GOLDEN / folder / f"{kind.TYPE}.json").read_bytes())
        address = address_of_kind(kind, of_runner=of_runner)
        pattern = re.sub(r"\\\{\w+\\\}", "[^.]+", re.escape(address))
        assert re.fullmatch(pattern, subject_of(event, "thing"))


def test_the_document_names_the_writers_that_the_permissions_are_made_of() -> None:
    writers = {"gpu-runner": RUNNER_EVENTS, "scheduler": SCHEDULER_EVENTS, "gateway": GATEWAY_EVENTS}
    for service, kinds in writers.items():
        sent = {kind for kind, (senders, _) in USERS.items() if service in senders and issubclass(kind, JobEvent)}
        assert sent == set(kinds), service


def references(part: Any) -> list[str]:
    if isinstance(part, dict):
        own = [part["$ref"]] if "$ref" in part else []
        return own + [ref for value in part.values() for ref in references(value)]
    return [ref for value in part for ref in references(value)] if isinstance(part, list) else []


def test_every_reference_resolves() -> None:
    whole = document()
    for reference in references(whole):
        part: Any = whole
        for key in reference.removeprefix("#/").split("/"):
            part = part[key]


def test_every_event_has_a_sender() -> None:
    sent = {op["channel"]["$ref"] for op in document()["operations"].values() if op["action"] == "send"}
    assert {f"#/channels/{kind.__name__}" for kind in EVENTS} <= sent


def test_check_fails_on_drift(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 0
    assert main([str(tmp_path), "--check"]) == 0
    (tmp_path / "asyncapi.json").write_text("{}")
    assert main([str(tmp_path), "--check"]) == 1


def test_what_is_committed_is_current() -> None:
    for name, text in files().items():
        assert (REPOSITORY / "docs" / "asyncapi" / name).read_text() == text
