"""The model aggregate, driven with whole histories of commands."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from dreamforge.contracts.errors import Conflict
from dreamforge.contracts.installation_events import ModelRemoved
from dreamforge.contracts.model_registry import (
    ModelCommand,
    ModelState,
    RegisterModel,
    RemoveModel,
    VerifyModel,
    decide_model,
    evolve_model,
)
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.request.errors import UnknownModel

DIGESTS = st.sampled_from(["a" * 64, "b" * 64])
TIMES = st.integers(0, 100).map(lambda s: datetime(2026, 11, 24, tzinfo=UTC) + timedelta(seconds=s))
DESCRIPTORS = st.builds(
    lambda digest: ModelDescriptor(
        model_id="m",
        family="flux",
        digest=digest,
        vram=VramProfile(resident_bytes=0, denoise_bytes_per_latent=0, decode_bytes_per_px=0),
        presets=(Preset(name="p", width_px=64, height_px=64, steps=1, guidance_scale=0),),
    ),
    DIGESTS,
)
COMMANDS: st.SearchStrategy[ModelCommand] = st.one_of(
    st.builds(RegisterModel, TIMES, DESCRIPTORS, st.booleans()),
    st.builds(lambda now, digest: VerifyModel(now, digest, 1, "host"), TIMES, DIGESTS),
    st.builds(RemoveModel, TIMES),
)
HISTORIES = st.lists(COMMANDS, max_size=12)


def folded(history: list[ModelCommand]) -> ModelState:
    state = ModelState()
    for command in history:
        try:
            for event in decide_model(state, command):
                state = evolve_model(state, event)
        except (Conflict, UnknownModel):
            continue
    return state


@given(HISTORIES, COMMANDS)
def test_a_command_that_was_carried_out_has_nothing_left_to_do(history: list[ModelCommand], command: ModelCommand):
    state = folded([*history, command])
    if not isinstance(command, RemoveModel):
        try:
            assert decide_model(state, command) == ()
        except (Conflict, UnknownModel):
            assert not state.available or isinstance(command, VerifyModel)


@given(HISTORIES, TIMES)
def test_what_was_removed_by_hand_is_not_brought_back_by_a_runner(history: list[ModelCommand], now: datetime):
    state = folded(history)
    if not state.available:
        return
    gone = evolve_model(state, ModelRemoved(at=now))
    assert gone.descriptor is not None
    assert decide_model(gone, RegisterModel(now, gone.descriptor)) == ()
    described_otherwise = gone.descriptor.model_copy(update={"title": "another"})
    assert decide_model(gone, RegisterModel(now, described_otherwise)) == ()
    assert decide_model(gone, RegisterModel(now, gone.descriptor, by_hand=True))


@given(HISTORIES, DESCRIPTORS, TIMES)
def test_a_runner_does_not_take_the_id_of_files_that_a_person_registered(
    history: list[ModelCommand], descriptor: ModelDescriptor, now: datetime
):
    chosen = folded([*history, RegisterModel(now, descriptor, by_hand=True)])
    otherwise = folded([*history, RegisterModel(now, descriptor, by_hand=True), RegisterModel(now, descriptor)])
    other_files = descriptor.model_copy(update={"digest": "f" * 64})
    for state in (chosen, otherwise):
        assert decide_model(state, RegisterModel(now, other_files)) == ()
        assert decide_model(state, RegisterModel(now, other_files, by_hand=True))


@given(HISTORIES)
def test_only_the_registered_files_count_as_verified(history: list[ModelCommand]):
    state = folded(history)
    if state.verified:
        assert state.descriptor is not None
        assert state.verified_digest == state.descriptor.digest
