"""The rule that the scheduler plans with and the gateway explains with."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from dreamforge.contracts.events import RenderRequest
from dreamforge.contracts.fleet import Device, Heartbeat
from dreamforge.contracts.models import ModelDescriptor, Preset, VramProfile
from dreamforge.contracts.placement import RunnerLoad, judge, required_bytes

PRESET = Preset(name="p", width_px=64, height_px=64, steps=1, guidance_scale=0)
MODELS = st.builds(
    lambda resident, denoise, decode: ModelDescriptor(
        model_id="m",
        family="f",
        digest="0" * 64,
        vram=VramProfile(
            resident_bytes=resident, denoise_bytes_per_latent=denoise, decode_bytes_per_px=decode, vae_scale=8
        ),
        presets=(PRESET,),
    ),
    st.integers(0, 5000),
    st.integers(0, 50),
    st.integers(0, 3),
)
SIDES = st.integers(1, 40).map(lambda eighths: eighths * 8) | st.integers(8, 100)
REQUESTS = st.builds(
    lambda model_id, width, height: RenderRequest(
        model_id=model_id, preset="p", prompt="x", width_px=width, height_px=height, steps=1, guidance_scale=0, seed=0
    ),
    st.sampled_from(["m", "other"]),
    SIDES,
    SIDES,
)
LOADS = st.builds(
    lambda slots, budget, draining, has, resident, committed, used: RunnerLoad(
        Heartbeat(
            runner_id="r",
            instance_id="i",
            at=datetime(2026, 1, 1, tzinfo=UTC),
            renderer="x",
            device=Device(kind="cpu", name="x", total_bytes=0),
            budget_bytes=budget,
            free_bytes=0,
            slots=slots,
            draining=draining,
            model_ids=("m",) if has else (),
            resident_model_ids=("m",) if resident else (),
        ),
        committed,
        used,
    ),
    st.integers(1, 4),
    st.integers(0, 20_000),
    st.booleans(),
    st.sampled_from([True, True, True, False]),
    st.booleans(),
    st.integers(0, 10_000),
    st.integers(0, 5),
)


@given(REQUESTS, MODELS, LOADS)
def test_a_runner_is_either_scored_or_refused_with_a_reason(request_, model, load):
    candidate = judge(request_, model, load)
    assert (candidate.score is None) == bool(candidate.refused)


@given(REQUESTS, MODELS, LOADS)
def test_whoever_is_scored_can_take_the_job(request_, model, load):
    if judge(request_, model, load).score is None:
        return
    beat = load.beat
    assert not beat.draining
    assert request_.model_id in beat.model_ids
    assert load.committed_slots < beat.slots
    assert load.committed_bytes + required_bytes(request_, model) <= beat.budget_bytes


@given(REQUESTS, LOADS)
def test_nobody_runs_a_model_that_is_not_registered(request_, load):
    assert judge(request_, None, load).refused


@given(REQUESTS, MODELS, LOADS, st.integers(1, 10_000))
def test_more_load_never_makes_a_runner_fit(request_, model, load, more):
    heavier = RunnerLoad(load.beat, load.committed_bytes + more, load.committed_slots + 1)
    if judge(request_, model, load).refused:
        assert judge(request_, model, heavier).refused


@given(REQUESTS, MODELS, LOADS)
def test_a_loaded_model_is_worth_more_than_anything_else(request_, model, load):
    cold = RunnerLoad(load.beat.model_copy(update={"resident_model_ids": ()}), load.committed_bytes)
    busy = RunnerLoad(
        load.beat.model_copy(update={"resident_model_ids": ("m",)}), load.committed_bytes, load.beat.slots - 1
    )
    scores = judge(request_, model, cold).score, judge(request_, model, busy).score
    if None not in scores:
        assert scores[0] < scores[1]
