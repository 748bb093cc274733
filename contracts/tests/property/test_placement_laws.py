"""The rule that the scheduler plans with and the gateway explains with."""

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from dreamforge.contracts.fleet import Device, Heartbeat
from dreamforge.contracts.models.descriptor import ModelDescriptor, Preset, Tier, VramProfile
from dreamforge.contracts.observed_memory import ObservedMemory
from dreamforge.contracts.placement import (
    Needs,
    RunnerLoad,
    bytes_an_image,
    images_together,
    judge,
    needs_of,
    required_bytes,
    required_on,
    tier_for,
)
from dreamforge.contracts.request.render_request import RenderRequest

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
    lambda model_id, width, height: needs_of(
        RenderRequest(
            model_id=model_id,
            preset="p",
            prompt="x",
            width_px=width,
            height_px=height,
            steps=1,
            guidance_scale=0,
            seed=0,
        )
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
    candidate = judge(request_, {"m": model}, load)
    assert (candidate.score is None) == bool(candidate.refused)


@given(REQUESTS, MODELS, LOADS)
def test_whoever_is_scored_can_take_the_job(request_, model, load):
    if judge(request_, {"m": model}, load).score is None:
        return
    heartbeat = load.heartbeat
    assert not heartbeat.draining
    assert request_.model_id in heartbeat.model_ids
    assert load.committed_slots < heartbeat.slots
    assert load.committed_bytes + required_bytes(request_, {"m": model}) <= heartbeat.budget_bytes


@given(REQUESTS, LOADS)
def test_nobody_runs_a_model_that_is_not_registered(request_, load):
    assert judge(request_, {}, load).refused


@given(REQUESTS, MODELS, LOADS, st.integers(1, 10_000))
def test_more_load_never_makes_a_runner_fit(request_, model, load, more):
    heavier = RunnerLoad(load.heartbeat, load.committed_bytes + more, load.committed_slots + 1)
    if judge(request_, {"m": model}, load).refused:
        assert judge(request_, {"m": model}, heavier).refused


@given(REQUESTS, MODELS, LOADS)
def test_a_loaded_model_is_worth_more_than_anything_else(request_, model, load):
    cold = RunnerLoad(load.heartbeat.model_copy(update={"resident_model_ids": ()}), load.committed_bytes)
    busy = RunnerLoad(
        load.heartbeat.model_copy(update={"resident_model_ids": ("m",)}), load.committed_bytes, load.heartbeat.slots - 1
    )
    scores = judge(request_, {"m": model}, cold).score, judge(request_, {"m": model}, busy).score
    if None not in scores:
        assert scores[0] < scores[1]


TIERED = st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 50)), min_size=1, max_size=4).map(
    lambda sizes: ModelDescriptor(
        model_id="m",
        family="f",
        digest="0" * 64,
        vram=VramProfile(resident_bytes=0, denoise_bytes_per_latent=0, decode_bytes_per_px=0),
        presets=(PRESET,),
        tiers=tuple(
            Tier(
                name=f"t{i}",
                vram=VramProfile(resident_bytes=resident, denoise_bytes_per_latent=denoise, decode_bytes_per_px=0),
            )
            for i, (resident, denoise) in enumerate(sizes)
        ),
    )
)
ASSET = ModelDescriptor(
    model_id="lora",
    family="f",
    kind="lora",
    digest="1" * 64,
    vram=VramProfile(resident_bytes=700, denoise_bytes_per_latent=0, decode_bytes_per_px=0),
)


@given(TIERED, LOADS)
def test_a_runner_takes_the_first_tier_that_fits_its_budget(model, load):
    needs, models = Needs("m", 64, 64), {"m": model}
    tier = tier_for(needs, models, load.heartbeat.budget_bytes)
    fits = [t for t in model.tiers if required_bytes(needs, models, t) <= load.heartbeat.budget_bytes]
    assert tier == (fits[0] if fits else None)
    candidate = judge(needs, models, load)
    if candidate.score is not None:
        assert candidate.tier == tier.name
        assert required_bytes(needs, models, tier) + load.committed_bytes <= load.heartbeat.budget_bytes


@given(MODELS, LOADS)
def test_an_asset_counts_and_must_be_there(model, load):
    with_lora, models = Needs("m", 64, 64, ("lora",)), {"m": model, "lora": ASSET}
    assert required_bytes(with_lora, models) == required_bytes(Needs("m", 64, 64), models) + 700
    assert judge(with_lora, models, load).refused
    has_both = RunnerLoad(
        load.heartbeat.model_copy(update={"model_ids": (*load.heartbeat.model_ids, "lora")}), load.committed_bytes
    )
    if judge(with_lora, models, has_both).score is not None:
        assert judge(Needs("m", 64, 64), models, has_both).score is not None


@given(MODELS, LOADS)
def test_a_request_that_computes_in_eight_bits_goes_to_runners_that_say_that_they_can(model, load):
    quantised, models = Needs("m", 64, 64, quantisation="int8"), {"m": model}
    for ways, why in (({}, "it does not say"), ({"int8": "torchao is not installed"}, "torchao is not installed")):
        cannot = replace(load, heartbeat=load.heartbeat.model_copy(update={"quantisations": ways}))
        candidate = judge(quantised, models, cannot)
        assert candidate.score is None
        if judge(Needs("m", 64, 64), models, cannot).score is not None:
            assert why in candidate.refused
    can = replace(load, heartbeat=load.heartbeat.model_copy(update={"quantisations": {"int8": ""}}))
    assert judge(quantised, models, can) == judge(Needs("m", 64, 64), models, can)


@given(TIERED, st.integers(1, 3000), st.sampled_from(["none", "model", "sequential"]))
def test_eight_bits_need_less_of_a_card_that_holds_the_whole_model_and_as_much_as_plain_weights_elsewhere(
    model, saved_bytes, offload
):
    tier = model.tiers[0].model_copy(update={"offload": offload})
    models = {"m": model.model_copy(update={"eight_bit_saved_bytes": saved_bytes})}
    plain, quantised = (required_bytes(Needs("m", 64, 64, quantisation=way), models, tier) for way in ("", "int8"))
    assert required_bytes(Needs("m", 64, 64, quantisation="int8"), models, tier, on_card=False) == plain
    if offload != "none":
        assert quantised == plain
        return
    more = tier.vram.denoise_bytes_per_latent // 2 * 8 * 8  # activations, at most, and only where a step is the peak
    weights = plain - min(saved_bytes, tier.vram.resident_bytes // 2)
    assert weights <= quantised <= weights + more


def test_a_card_takes_a_job_in_eight_bits_that_is_too_large_for_it_in_plain_weights_and_a_processor_does_not():
    models = {"m": model_of(1000, 0).model_copy(update={"eight_bit_saved_bytes": 400})}
    can = idle(700).heartbeat.model_copy(update={"quantisations": {"int8": ""}})
    card = can.model_copy(update={"device": Device(kind="cuda", name="x", total_bytes=0)})
    quantised, plain = (Needs("m", 64, 64, quantisation=way) for way in ("int8", ""))
    assert "needs 600 of 700 bytes, estimated" in judge(quantised, models, RunnerLoad(card)).reasons
    assert judge(plain, models, RunnerLoad(card)).refused == "too small: needs 1000 bytes, can offer 700"
    assert judge(quantised, models, RunnerLoad(can)).refused == "too small: needs 1000 bytes, can offer 700"


@given(st.integers(0, 3000), st.integers(0, 1500), st.integers(0, 1500))
def test_the_second_job_in_eight_bits_is_placed_by_what_the_first_took(plain_bytes, own_bytes, saved_bytes):
    models = {"m": model_of(1000, 0).model_copy(update={"eight_bit_saved_bytes": saved_bytes})}
    quantised, plain = (Needs("m", 64, 64, quantisation=way) for way in ("int8", ""))
    memory = ObservedMemory(peaks={plain.memory_shape: {"": plain_bytes}})
    update = {"quantisations": {"int8": ""}, "device": Device(kind="cuda", name="x", total_bytes=0)}
    card = idle(10_000).heartbeat.model_copy(update=update | {"memory": memory})
    assert required_on(card, quantised, models) == required_on(card, plain, models), "none of its own was seen"
    both = ObservedMemory(peaks=memory.peaks | {quantised.memory_shape: {"": own_bytes}})
    card = card.model_copy(update={"memory": both})
    least = max(own_bytes, 500)
    assert required_on(card, quantised, models) == least + least // 16, "half of the weights at least"
    assert "as observed" in judge(quantised, models, RunnerLoad(card)).reasons[2]
    processor = card.model_copy(update={"device": Device(kind="cpu", name="x", total_bytes=0)})
    least = max(own_bytes, 1000)
    assert required_on(processor, quantised, models) == least + least // 16, "all weights are plain there at first"


def seen(load, peak_bytes, *, exhausted=(), tier=""):
    """The same runner, after it rendered the shape of `NEEDS`."""
    memory = ObservedMemory(peaks={NEEDS.batch_shape: {tier: peak_bytes}}, exhausted=exhausted)
    return RunnerLoad(load.heartbeat.model_copy(update={"memory": memory}), load.committed_bytes, load.committed_slots)


NEEDS = Needs("m", 64, 64)


@given(MODELS, LOADS, st.integers(0, 20_000))
def test_an_observed_peak_counts_instead_of_the_estimate_and_never_fills_more_than_there_is(model, load, peak_bytes):
    models, load = {"m": model}, seen(load, peak_bytes)
    heartbeat = load.heartbeat
    need = required_on(heartbeat, NEEDS, models)
    least = max(model.vram.resident_bytes, peak_bytes)
    assert least <= need <= least + least // 16
    assert (need <= heartbeat.budget_bytes) == (least <= heartbeat.budget_bytes)
    if judge(NEEDS, models, load).score is not None:
        assert need + load.committed_bytes <= heartbeat.budget_bytes


@given(TIERED, LOADS)
def test_a_peak_counts_for_its_tier_and_its_shape_only(model, load):
    models, load = {"m": model}, seen(load, 19_000, tier=model.tiers[-1].name)
    for tier in model.tiers[:-1]:
        assert required_on(load.heartbeat, NEEDS, models, tier) == required_bytes(NEEDS, models, tier)
    other = Needs("m", 128, 64)
    assert required_on(load.heartbeat, other, models) == required_bytes(other, models)


def idle(budget_bytes=1000):
    beat = Heartbeat(
        runner_id="r",
        instance_id="i",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        renderer="x",
        device=Device(kind="cpu", name="x", total_bytes=0),
        budget_bytes=budget_bytes,
        free_bytes=0,
        slots=1,
        model_ids=("m",),
        batch_max=8,
        batch_bounds={NEEDS.batch_shape: 8},
    )
    return RunnerLoad(beat)


def model_of(resident_bytes, decode_bytes_per_px):
    vram = VramProfile(
        resident_bytes=resident_bytes, denoise_bytes_per_latent=0, decode_bytes_per_px=decode_bytes_per_px
    )
    return ModelDescriptor(model_id="m", family="f", digest="0" * 64, vram=vram, presets=(PRESET,))


def test_what_was_estimated_too_high_or_too_low_is_corrected_and_said():
    models = {"m": model_of(100, 1)}  # 100 + 64 * 64 bytes: more than there are
    assert judge(NEEDS, models, idle()).refused == "too small: needs 4196 bytes, can offer 1000"
    corrected = judge(NEEDS, models, seen(idle(), 320))
    assert "needs 340 of 1000 bytes, as observed" in corrected.reasons
    assert "needs 4196 of 5000 bytes, estimated" in judge(NEEDS, models, idle(5000)).reasons
    too_low = {"m": model_of(100, 0)}
    assert judge(NEEDS, too_low, seen(idle(), 1001)).refused == "too small: needs 1001 bytes, can offer 1000"
    assert images_together(NEEDS, too_low, seen(idle(), 320)) == 8
    # What fitted into all there is, fits again.
    assert judge(NEEDS, too_low, seen(idle(), 990)).score is not None


def test_what_further_images_take_is_corrected_by_what_was_observed():
    models, load = {"m": model_of(100, 0)}, seen(idle(), 320)
    further = load.heartbeat.memory.model_copy(update={"further": {NEEDS.batch_shape: {"": 160}}})
    load = replace(load, heartbeat=load.heartbeat.model_copy(update={"memory": further}))
    assert bytes_an_image(NEEDS, models, None, load.heartbeat) == 170
    # 340 for the first, 170 for each other one; the estimate is that they take nothing.
    assert images_together(NEEDS, models, load) == 4
    assert images_together(Needs("m", 128, 64), models, load) == 2


def test_the_rungs_that_a_shape_begins_with_are_among_the_reasons():
    models, beat = {"m": model_of(100, 0)}, idle().heartbeat
    memory = ObservedMemory(rungs={NEEDS.batch_shape: ("offload_model", "tiled_decode")})
    load = RunnerLoad(beat.model_copy(update={"memory": memory}))
    why = "begins with offload model, tiled decode: without, this size ran out of memory there"
    assert why in judge(NEEDS, models, load).reasons
    assert why not in judge(Needs("m", 128, 64), models, load).reasons


def test_a_runner_that_ran_out_of_memory_for_a_shape_is_the_worst_for_it_and_not_refused():
    models, full = {"m": model_of(100, 0)}, seen(idle(), 320, exhausted=(NEEDS.batch_shape,))
    found = judge(NEEDS, models, full)
    assert found.score < judge(NEEDS, models, idle()).score
    assert "ran out of memory at this size, so others are asked first" in found.reasons
    other = Needs("m", 128, 64)
    assert judge(other, models, full).score == judge(other, models, idle()).score
