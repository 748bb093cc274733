"""Golden files: every version that was ever written stays readable for ever. Never edit one; add a version.

`golden/of_runners` has the events that name the runner that wrote them; `subjects.json` where both shapes are stored.
`golden/with_times` has an assignment with the times that were expected of it.
"""

import json
from pathlib import Path

import pytest

from dreamforge.contracts.errors import MalformedEvent
from dreamforge.contracts.events import RUNNER_EVENTS
from dreamforge.contracts.installation_events import EVENTS
from dreamforge.contracts.log.envelope import BY_TYPE, UPCASTERS, _parse, unseal

GOLDEN = Path(__file__).parent / "golden"
SUBJECTS = json.loads((GOLDEN / "subjects.json").read_text())
SHAPES = ("dreamforge.*.json", "of_runners/*.json", "with_times/*.json")


@pytest.mark.parametrize(
    "path", sorted(path for shape in SHAPES for path in GOLDEN.glob(shape)), ids=lambda path: f"{path.parts[-2:]}"
)
def test_what_was_written_can_be_read(path: Path) -> None:
    event = _parse("forge.golden", path.stem, path.read_bytes())
    if path.stem in BY_TYPE and path.stem not in UPCASTERS:
        assert json.loads(event.model_dump_json()) == json.loads(path.read_bytes())


@pytest.mark.parametrize("kind", sorted(SUBJECTS))
def test_both_shapes_are_read_where_they_are_and_only_there(kind: str) -> None:
    earlier, of_runner = ((GOLDEN / folder / f"{kind}.json").read_bytes() for folder in ("", "of_runners"))
    bare, marked = SUBJECTS[kind]
    for subject, payload in ((bare, earlier), (marked, of_runner)):
        assert unseal(subject, {"ce-type": kind}, payload, sequence=1).entity_id == "J"
    for subject, payload in ((bare, of_runner), (marked, earlier), (marked, of_runner.replace(b"gpu-1", b"gpu-2"))):
        with pytest.raises(MalformedEvent):
            unseal(subject, {"ce-type": kind}, payload, sequence=1)


def test_every_event_has_a_golden_file() -> None:
    assert {event.TYPE for event in EVENTS} <= {path.stem for path in GOLDEN.glob("*.json")}
    assert {event.TYPE for event in RUNNER_EVENTS} == {path.stem for path in GOLDEN.glob("of_runners/*.json")}
    assert {event.TYPE for event in RUNNER_EVENTS} == set(SUBJECTS)


def test_an_image_that_says_it_is_elsewhere_is_malformed() -> None:
    kind = "dreamforge.job.artifact-stored.v1"
    payload = json.loads((GOLDEN / "of_runners" / f"{kind}.json").read_bytes())
    for key in ("images/ff/other.png", f"uploads/aa/{'a' * 64}", "../x"):
        data = json.dumps(payload | {"object_key": key}).encode()
        with pytest.raises(MalformedEvent, match="object_key"):
            unseal(SUBJECTS[kind][1], {"ce-type": kind}, data, sequence=1)


def test_types_are_unique_and_versioned() -> None:
    types = [event.TYPE for event in EVENTS]
    assert len(types) == len(set(types))
    assert all(kind.startswith("dreamforge.") and kind.rsplit(".v", 1)[1].isdigit() for kind in types)
