"""What is sealed can be unsealed; what is not ours is refused with a reason, never with another error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamforge.contracts.errors import MalformedEvent
from dreamforge.contracts.events import Event
from dreamforge.contracts.installation_events import EVENTS, ModelRegistered
from dreamforge.contracts.log.envelope import BY_TYPE, seal, unseal
from dreamforge.contracts.log.subjects import subject_of


@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.TYPE)
def test_seal_then_unseal_gives_the_event_back(kind: type[Event]) -> None:
    from pathlib import Path

    golden = Path(__file__).parent.parent / "unit" / "golden" / f"{kind.TYPE}.json"
    event = kind.model_validate_json(golden.read_bytes())
    whose = event.descriptor.model_id if isinstance(event, ModelRegistered) else "thing-1"
    sealed = seal(event, entity_id=whose, event_id="e1", source="/dreamforge/test", traceparent="00-a-b-01")
    back = unseal(sealed.subject, sealed.headers, sealed.data, sequence=7)
    assert (back.event, back.entity_id, back.sequence) == (event, whose, 7)
    assert (back.event_id, back.source, back.traceparent) == ("e1", "/dreamforge/test", "00-a-b-01")


@given(
    subject=st.one_of(st.text(max_size=60), st.just("forge.jobs.J.0.requested")),
    kind=st.one_of(st.text(max_size=60), st.sampled_from(sorted(BY_TYPE))),
    data=st.binary(max_size=200),
)
def test_whatever_is_on_the_bus_unseals_or_is_malformed(subject: str, kind: str, data: bytes) -> None:
    with pytest.raises(MalformedEvent):
        unseal(subject, {"ce-type": kind}, data, sequence=1)


@pytest.mark.parametrize("headers", [None, {}, {"Nats-Msg-Id": "x"}])
def test_a_message_without_a_type_is_malformed(headers: dict[str, str] | None) -> None:
    with pytest.raises(MalformedEvent, match="ce-type is missing"):
        unseal("forge.jobs.J.0.requested", headers, b"{}", sequence=1)


def test_a_valid_event_on_a_foreign_subject_is_malformed() -> None:
    from pathlib import Path

    kind = BY_TYPE["dreamforge.job.started.v1"]
    golden = Path(__file__).parent.parent / "unit" / "golden" / f"{kind.TYPE}.json"
    event = kind.model_validate_json(golden.read_bytes())
    sealed = seal(event, entity_id="J", event_id="e", source="s")
    assert sealed.subject == subject_of(event, "J")
    with pytest.raises(MalformedEvent, match="belongs on"):
        unseal("forge.jobs.J.9.started", sealed.headers, sealed.data, sequence=1)


def test_a_model_under_another_models_name_is_malformed() -> None:
    from pathlib import Path

    kind = "dreamforge.model.registered.v1"
    golden = Path(__file__).parent.parent / "unit" / "golden" / f"{kind}.json"
    with pytest.raises(MalformedEvent, match=r"belongs on forge\.models\.forge-tiny"):
        unseal("forge.models.other.registered", {"ce-type": kind}, golden.read_bytes(), sequence=1)
