"""Golden files: every version that was ever written stays readable for ever. Never edit one; add a version."""

import json
from pathlib import Path

import pytest

from dreamforge.contracts.installation_events import EVENTS
from dreamforge.contracts.log.envelope import BY_TYPE, UPCASTERS, _parse

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_what_was_written_can_be_read(path: Path) -> None:
    event = _parse("forge.golden", path.stem, path.read_bytes())
    if path.stem in BY_TYPE and path.stem not in UPCASTERS:
        assert json.loads(event.model_dump_json()) == json.loads(path.read_bytes())


def test_every_event_has_a_golden_file() -> None:
    assert {event.TYPE for event in EVENTS} <= {path.stem for path in GOLDEN.glob("*.json")}


def test_types_are_unique_and_versioned() -> None:
    types = [event.TYPE for event in EVENTS]
    assert len(types) == len(set(types))
    assert all(kind.startswith("dreamforge.") and kind.rsplit(".v", 1)[1].isdigit() for kind in types)
