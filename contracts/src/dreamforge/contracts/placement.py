"""Whether a job may run on a runner, and how well it fits: one rule for the plan and for its explanation. Pure.

The scheduler plans with it, and the gateway explains with it why a job waits.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter

from dreamforge.contracts.errors import SizeNotSupported
from dreamforge.contracts.events import Candidate
from dreamforge.contracts.fleet import Heartbeat, batch_shape, memory_shape
from dreamforge.contracts.models.descriptor import ModelDescriptor, Tier, VramProfile
from dreamforge.contracts.models.vram import estimate_vram_bytes
from dreamforge.contracts.observed_memory import ObservedMemory
from dreamforge.contracts.request.render_request import RenderRequest

# A resident model need not be loaded, which outweighs any other difference between two idle runners.
RESIDENT_SCORE = 100.0
# Of two runners with the model, the one with more idle slots; of two equals, the tighter fit keeps big cards free.
IDLE_SCORE = 10.0
TIGHT_FIT_SCORE = 5.0
# Below every other score: a runner that ran out of memory at this size is asked when no other one can take the job.
EXHAUSTED_SCORE = -1000.0
# What a step takes more where products are computed in eight bits: torchao rounds activations into copies, and has
# products as 32-bit numbers for a moment. Counted from its code: 0.47 GB of FLUX at a megapixel, of which all of a step
# is estimated at 1.6 GB; a half is more. Not measured on a card.
EIGHT_BIT_STEP_MORE = 2  # one part in so many
# A sixteenth more than was observed: a choice, for blocks of the allocator that are split and do not join again.
OBSERVED_MARGIN_PART = 16


Models = Mapping[str, ModelDescriptor]


@dataclass(frozen=True, slots=True, order=True)
class Needs:
    """All that placement needs of a request, so that a scheduler need not keep 100,000 prompts.

    The size is the largest that is rendered at once: that of the second pass where there is one, or of a tile of it.
    `assets` are LoRAs, ControlNets and the like. Jobs of equal needs fit the same runners, so they are judged once for
    all.
    """

    model_id: str
    height_px: int
    width_px: int
    assets: tuple[str, ...] = ()
    #: Of a video; an image is one.
    frames: int = 1
    #: What its products are computed in; empty: in the model's precision.
    quantisation: str = ""
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """A plan looks up what it knows of a shape many thousand times, so it is hashed once."""
        values = (self.model_id, self.height_px, self.width_px, self.assets, self.frames, self.quantisation)
        object.__setattr__(self, "_hash", hash(values))

    def __hash__(self) -> int:
        return self._hash

    @property
    def batch_shape(self) -> str:
        """What times are measured for (see `contracts.fleet.batch_shape`)."""
        return batch_shape(self.model_id, self.width_px, self.height_px, self.frames)

    @property
    def memory_shape(self) -> str:
        """What peaks are observed for: weights and activations in eight bits take other ones."""
        return memory_shape(self.batch_shape, self.quantisation)


def needs_of(request: RenderRequest) -> Needs:
    """What a request needs."""
    width_px, height_px = request.largest_px
    return _needs(
        request.model_id, height_px, width_px, request.assets, request.frames or 1, request.quantised_to or ""
    )


@lru_cache(maxsize=4096)
def _needs(
    model_id: str, height_px: int, width_px: int, assets: tuple[str, ...], frames: int, quantisation: str
) -> Needs:
    """Equal needs are one object: there are few of them and many jobs."""
    return Needs(model_id, height_px, width_px, assets, frames, quantisation)


def quantisation_refusal(needs: Needs, heartbeat: Heartbeat) -> str:
    """Why a runner cannot compute as a request wants it; empty: it can."""
    if not needs.quantisation:
        return ""
    return heartbeat.quantisations.get(needs.quantisation, "it does not say that it can")


@dataclass(frozen=True, slots=True)
class RunnerLoad:
    """A live runner with what is assigned to it or runs there already.

    `free_slots`: attempts it can still take; `left_bytes`: memory that is not taken. The other values are the
    heartbeat's. A plan asks for all of these some ten thousand times, so they are found once.
    """

    heartbeat: Heartbeat
    committed_bytes: int = 0
    committed_slots: int = 0
    #: Attempts whose slots are free already, although they may still render for a moment.
    ending: int = 0
    free_slots: int = field(init=False, repr=False, compare=False)
    left_bytes: int = field(init=False, repr=False, compare=False)
    budget_bytes: int = field(init=False, repr=False, compare=False)
    resident_model_ids: tuple[str, ...] = field(init=False, repr=False, compare=False)
    memory: ObservedMemory | None = field(init=False, repr=False, compare=False)
    """None: it has observed nothing."""
    idle_score: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Find what follows from the heartbeat and what was taken."""
        beat = self.heartbeat
        free_slots = max(0, beat.slots - self.committed_slots)
        for name, value in (
            ("free_slots", free_slots),
            ("left_bytes", beat.budget_bytes - self.committed_bytes),
            ("budget_bytes", beat.budget_bytes),
            ("resident_model_ids", beat.resident_model_ids),
            ("memory", beat.memory if beat.memory.peaks or beat.memory.exhausted else None),
            ("idle_score", IDLE_SCORE * free_slots / (beat.slots + self.ending)),
        ):
            object.__setattr__(self, name, value)


def required_bytes(needs: Needs, models: Models, tier: Tier | None = None, *, on_card: bool = True) -> int:
    """Peak memory of one image in a tier of its model (None: the most comfortable one), assets included.

    `on_card`: on a device with a memory of its own, to which weights that become smaller come layer by layer.
    A runner renders several together only in memory that is left (see `images_together`).
    Errors: KeyError for a model or an asset that is not registered; SizeNotSupported.
    """
    profile = profile_of(needs, models, tier, on_card=on_card)
    assets_bytes = sum(models[asset].vram.resident_bytes for asset in needs.assets)
    return assets_bytes + _vram_bytes(profile, needs, batch=1)


def profile_of(needs: Needs, models: Models, tier: Tier | None = None, *, on_card: bool = True) -> VramProfile:
    """What a tier of a model (None: the most comfortable one) takes as a request computes in it (decision 0104).

    Plain, unless all of the model is on a card and it is known what becomes smaller there. Errors: KeyError.
    """
    model = models[needs.model_id]
    tier = tier or model.all_tiers[0]
    if not (needs.quantisation and on_card and model.eight_bit_saved_bytes and tier.offload == "none"):
        return tier.vram
    return _in_eight_bits(tier.vram, model.eight_bit_saved_bytes)


@lru_cache(maxsize=256)
def _in_eight_bits(profile: VramProfile, saved_bytes: int) -> VramProfile:
    """No more than half of the weights is believed to be saved, whatever a descriptor that was written by hand says."""
    step_bytes = profile.denoise_bytes_per_latent
    return profile.model_copy(
        update={
            "resident_bytes": profile.resident_bytes - min(saved_bytes, profile.resident_bytes // 2),
            "denoise_bytes_per_latent": step_bytes + step_bytes // EIGHT_BIT_STEP_MORE,
        }
    )


def has_own_memory(heartbeat: Heartbeat) -> bool:
    """Whether a runner's device has a memory of its own. On others all weights are plain before they become smaller."""
    return heartbeat.device.kind == "cuda"


def required_on(heartbeat: Heartbeat, needs: Needs, models: Models, tier: Tier | None = None) -> int:
    """The same on a runner: what it has observed of this shape and tier with a margin, else the estimate.

    Never below the weights, or half of them where a run in eight bits was observed on a card. The margin alone does not
    make a render too large for the runner that has rendered it.
    Errors: as `required_bytes`.
    """
    estimate = required_bytes(needs, models, tier, on_card=has_own_memory(heartbeat))
    observed = _observed_bytes(heartbeat, needs, models, tier)
    if observed is None:
        return estimate
    profile = (tier or models[needs.model_id].all_tiers[0]).vram
    weights_bytes = _least_weights_bytes(heartbeat, needs, models, tier)
    assets_bytes = sum(models[asset].vram.resident_bytes for asset in needs.assets)
    least = assets_bytes + profile.overhead_bytes + max(weights_bytes, observed)
    return min(least + least // OBSERVED_MARGIN_PART, max(least, heartbeat.budget_bytes))


def _least_weights_bytes(heartbeat: Heartbeat, needs: Needs, models: Models, tier: Tier | None) -> int:
    """What is not believed to take less, whatever was observed."""
    tier = tier or models[needs.model_id].all_tiers[0]
    plain_bytes = tier.vram.resident_bytes
    if not needs.quantisation or tier.offload != "none" or not has_own_memory(heartbeat):
        return plain_bytes
    own = heartbeat.memory.peak_bytes(needs.memory_shape, _tier_name(needs, models, tier))
    return plain_bytes if own is None else plain_bytes - plain_bytes // 2


def _observed_bytes(heartbeat: Heartbeat, needs: Needs, models: Models, tier: Tier | None) -> int | None:
    """Of its own kind of run, else of plain ones: for eight bits that is too much, and never too little."""
    if not heartbeat.memory.peaks:
        return None
    named = _tier_name(needs, models, tier)
    own = heartbeat.memory.peak_bytes(needs.memory_shape, named)
    return own if own is not None or not needs.quantisation else heartbeat.memory.peak_bytes(needs.batch_shape, named)


def _tier_name(needs: Needs, models: Models, tier: Tier | None) -> str | None:
    """As what is observed names it."""
    model = models[needs.model_id]
    return (tier or model.all_tiers[0]).name if model.tiers else None


def is_exhausted(heartbeat: Heartbeat, needs: Needs) -> bool:
    """Whether a runner had nothing left to try when it last ran out of memory for this shape."""
    exhausted = heartbeat.memory.exhausted
    return bool(exhausted) and needs.batch_shape in exhausted


def rungs_for(heartbeat: Heartbeat, needs: Needs) -> tuple[str, ...]:
    """What a runner does from the start, because a render of this shape ran out of memory without it."""
    return heartbeat.memory.rungs.get(needs.batch_shape, ()) if heartbeat.memory.rungs else ()


def _named(rungs: Iterable[str]) -> str:
    return ", ".join(rung.replace("_", " ") for rung in rungs)


def _vram_bytes(profile: VramProfile, needs: Needs, *, batch: int) -> int:
    return estimate_vram_bytes(
        profile, batch=batch, height_px=needs.height_px, width_px=needs.width_px, frames=needs.frames
    )


def bytes_an_image(needs: Needs, models: Models, tier: Tier | None = None, heartbeat: Heartbeat | None = None) -> int:
    """What each further image of a run needs beyond the first.

    By what a runner has observed, with the same margin as for the first, else by the estimate.
    Errors: as `required_bytes`.
    """
    if heartbeat is not None and heartbeat.memory.further:
        named = _tier_name(needs, models, tier)
        own = heartbeat.memory.further_bytes(needs.memory_shape, named)
        seen = own if own is not None else heartbeat.memory.further_bytes(needs.batch_shape, named)
        if seen is not None:
            return seen + seen // OBSERVED_MARGIN_PART
    profile = profile_of(needs, models, tier, on_card=heartbeat is None or has_own_memory(heartbeat))
    return _vram_bytes(profile, needs, batch=2) - _vram_bytes(profile, needs, batch=1)


def images_together(needs: Needs, models: Models, runner: RunnerLoad, tier: Tier | None = None) -> int:
    """How many images a runner renders in one run, by what it has learnt and by the memory it has left; at least 1.

    Errors: as `required_bytes`.
    """
    return _together(needs, models, runner, tier, required_on(runner.heartbeat, needs, models, tier))


def _together(needs: Needs, models: Models, runner: RunnerLoad, tier: Tier | None, need_bytes: int) -> int:
    heartbeat = runner.heartbeat
    if heartbeat.batch_max == 1 and not heartbeat.batch_bounds:
        return 1
    bound = heartbeat.batch_bound(needs.batch_shape)
    left = runner.left_bytes - need_bytes
    more = max(1, bytes_an_image(needs, models, tier, heartbeat))
    return max(1, min(bound, 1 + left // more))


def tier_for(needs: Needs, models: Models, budget_bytes: int) -> Tier | None:
    """The most comfortable tier that fits a budget; None if none does. By budget and not by what is free now, so that
    the same runner renders the same request the same way whatever else it does.

    Errors: as `required_bytes`.
    """
    tiers = models[needs.model_id].all_tiers
    return next((tier for tier in tiers if required_bytes(needs, models, tier) <= budget_bytes), None)


def tier_on(heartbeat: Heartbeat, needs: Needs, models: Models) -> Tier | None:
    """The same for a runner, by what it has observed. Errors: as `required_bytes`."""
    tiers = models[needs.model_id].all_tiers
    return next((t for t in tiers if required_on(heartbeat, needs, models, t) <= heartbeat.budget_bytes), None)


def least_bytes(needs: Needs, models: Models) -> int:
    """What the most frugal tier takes. Errors: as `required_bytes`."""
    return min(required_bytes(needs, models, tier) for tier in models[needs.model_id].all_tiers)


def least_on(heartbeat: Heartbeat, needs: Needs, models: Models) -> tuple[int, Tier]:
    """The same on a runner, by what it has observed, and the tier. Errors: as `required_bytes`."""
    tiers = models[needs.model_id].all_tiers
    return min(((required_on(heartbeat, needs, models, tier), tier) for tier in tiers), key=itemgetter(0))


def can_ever_take(needs: Needs, models: Models, heartbeat: Heartbeat) -> bool:
    """Whether `judge` would score a runner if nothing else were on it: the same, without the words and the score."""
    return _cannot(needs, models, heartbeat) is None and tier_on(heartbeat, needs, models) is not None


def judge(needs: Needs, models: Models, runner: RunnerLoad) -> Candidate:
    """Score a runner for a request, or refuse it with the reason and the numbers. Higher scores are better."""
    heartbeat = runner.heartbeat
    if refusal := _cannot(needs, models, heartbeat):
        return Candidate(runner_id=heartbeat.runner_id, refused=refusal)
    tier = tier_on(heartbeat, needs, models)
    if tier is None:
        need = min(required_on(heartbeat, needs, models, each) for each in models[needs.model_id].all_tiers)
        return Candidate(
            runner_id=heartbeat.runner_id, refused=f"too small: needs {need} bytes, can offer {heartbeat.budget_bytes}"
        )
    need = required_on(heartbeat, needs, models, tier)
    if refusal := _lacks_capacity(need, runner):
        named = tier.name if models[needs.model_id].tiers else None
        return Candidate(runner_id=heartbeat.runner_id, refused=refusal, tier=named)
    return scored(needs, models, runner, tier, need)


def scored(needs: Needs, models: Models, runner: RunnerLoad, tier: Tier | None, need_bytes: int) -> Candidate:
    """The score of a runner that can take a request now, in this tier and with so many bytes, and its reasons."""
    source = "estimated" if _observed_bytes(runner.heartbeat, needs, models, tier) is None else "as observed"
    named = tier.name if tier is not None and models[needs.model_id].tiers else None
    together = _together(needs, models, runner, tier, need_bytes)
    return _with_reasons(needs, (need_bytes, source), runner, named, together)


def _with_reasons(
    needs: Needs, sized: tuple[int, str], runner: RunnerLoad, tier: str | None, together: int
) -> Candidate:
    heartbeat, (need, source) = runner.heartbeat, sized
    exhausted, rungs = is_exhausted(heartbeat, needs), rungs_for(heartbeat, needs)
    resident = needs.model_id in runner.resident_model_ids
    reasons = (
        "model is loaded" if resident else "model must be loaded",
        f"{runner.free_slots} of {heartbeat.slots} slots free",
        f"needs {need} of {runner.left_bytes} bytes" + (f" in tier {tier!r}" if tier else "") + f", {source}",
        *((f"begins with {_named(rungs)}: without, this size ran out of memory there",) if rungs else ()),
        *(("ran out of memory at this size, so others are asked first",) if exhausted else ()),
        *((f"renders up to {together} images of this size together",) if together > 1 else ()),
    )
    return Candidate(runner_id=heartbeat.runner_id, score=score_of(needs, need, runner), reasons=reasons, tier=tier)


def score_of(needs: Needs, need_bytes: int, runner: RunnerLoad) -> float:
    """The score of a runner that can take a request now, of which it needs so many bytes."""
    score = (
        RESIDENT_SCORE * (needs.model_id in runner.resident_model_ids)
        + runner.idle_score
        + TIGHT_FIT_SCORE * need_bytes / max(1, runner.left_bytes)
    )
    if runner.memory is not None and is_exhausted(runner.heartbeat, needs):
        score += EXHAUSTED_SCORE
    return round(score, 3)


def _cannot(needs: Needs, models: Models, heartbeat: Heartbeat) -> str | None:
    if heartbeat.health.state == "fenced":
        return f"fenced: {heartbeat.health.reason}"
    if heartbeat.starting:
        return "starting: its renderer is not ready yet"
    if heartbeat.draining:
        return "draining: it takes no new work"
    for wanted in (needs.model_id, *needs.assets):
        if wanted not in models or wanted not in heartbeat.model_ids:
            return f"does not have model {wanted!r}"
    if why := quantisation_refusal(needs, heartbeat):
        return f"cannot compute in {needs.quantisation}: {why}"
    try:
        required_bytes(needs, models)
    except SizeNotSupported as error:
        return str(error)
    return None


def _lacks_capacity(need: int, runner: RunnerLoad) -> str | None:
    if runner.free_slots < 1:
        return f"busy: all {runner.heartbeat.slots} slots taken"
    if need > runner.left_bytes:
        return f"no headroom: needs {need} bytes, {runner.left_bytes} left"
    return None
