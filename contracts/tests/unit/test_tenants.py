"""A tenant's quotas and weight follow from its events."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dreamforge.contracts.quotas import Quota, Quotas
from dreamforge.contracts.tenants import UNCONFIGURED, ConfigureTenant, decide_tenant, evolve_tenant

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CHANGES = st.dictionaries(st.sampled_from([quota.value for quota in Quota]), st.none() | st.integers(1, 10**12))


def after(*commands: ConfigureTenant):
    state = UNCONFIGURED
    for command in commands:
        for event in decide_tenant(state, command):
            state = evolve_tenant(state, event)
    return state


def test_determinism_stays_until_it_is_set_again():
    strict = after(ConfigureTenant(NOON, {}, determinism="strict"), ConfigureTenant(NOON, {}, weight=2))
    assert strict.determinism == "strict"
    assert decide_tenant(strict, ConfigureTenant(NOON, {}, determinism="strict")) == ()
    (event,) = decide_tenant(strict, ConfigureTenant(NOON, {}, determinism="batched"))
    assert evolve_tenant(strict, event).determinism == "batched"


@given(st.lists(st.tuples(CHANGES, st.none() | st.integers(1, 100)), max_size=6))
def test_the_last_word_on_each_quota_counts(changes):
    state = after(*(ConfigureTenant(NOON, quotas, weight) for quotas, weight in changes))
    said: dict[str, object] = {}
    for quotas, _ in changes:
        said |= quotas
    assert {quota.value: state.quotas.limit(quota) for quota in Quota} == {
        quota.value: said.get(quota.value) for quota in Quota
    }
    assert state.weight == next((weight for _, weight in reversed(changes) if weight is not None), 1)


@given(CHANGES, st.integers(1, 100))
def test_a_command_that_changes_nothing_is_no_event(quotas, weight):
    command = ConfigureTenant(NOON, quotas, weight)
    assert decide_tenant(after(command), command) == ()


def test_a_weight_counts_from_its_time_on():
    hours = [NOON + timedelta(hours=number) for number in range(3)]
    state = after(*(ConfigureTenant(at, {}, weight) for at, weight in zip(hours, (2, 2, 5), strict=True)))
    asked = (NOON - timedelta(seconds=1), NOON, hours[1], hours[2] - timedelta(seconds=1), hours[2])
    assert [state.weight_at(at) for at in asked] == [1, 2, 2, 2, 5]


@pytest.mark.parametrize("quotas", [{"open_jobs": -1}, {"requests_per_second": 0}, {"open_job": 1}, {"streams": 1.5}])
def test_a_quota_that_cannot_be_is_refused(quotas):
    with pytest.raises(ValidationError):
        decide_tenant(UNCONFIGURED, ConfigureTenant(NOON, quotas))


def test_a_tenant_without_a_quota_has_that_of_the_installation():
    own, installation = Quotas(streams=1), Quotas(streams=2, uploads=0)
    assert own.or_else(installation) == Quotas(streams=1, uploads=0)


def test_a_selected_model_stays_whatever_else_changes():
    selected = ConfigureTenant(NOON, {}, selected_model="sdxl")
    state = after(selected, ConfigureTenant(NOON, {"streams": 1}, 2))
    assert (state.selected_model, state.weight, state.quotas.streams) == ("sdxl", 2, 1)
    assert decide_tenant(state, selected) == ()
    (event,) = decide_tenant(UNCONFIGURED, ConfigureTenant(NOON, {}, 2))
    assert "selected_model" not in event.model_dump()


def test_downloads_without_recipes_stay_so_until_they_are_set_again():
    bare = ConfigureTenant(NOON, {}, metadata="none")
    state = after(bare, ConfigureTenant(NOON, {"streams": 1}, 2))
    assert (state.metadata, decide_tenant(state, bare)) == ("none", ())
    (event,) = decide_tenant(state, ConfigureTenant(NOON, {}, metadata="full"))
    assert "metadata" not in event.model_dump()
    assert evolve_tenant(state, event).metadata == "full"
