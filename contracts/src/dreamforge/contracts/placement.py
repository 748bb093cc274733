"""May this job run on that runner, and how well: one rule for `plan` and for "why is my job waiting".

Pure and small on purpose: the scheduler plans with it, the gateway explains with it.
"""

from dataclasses import dataclass
from typing import Protocol

from dreamforge.contracts.errors import SizeNotSupported
from dreamforge.contracts.events import Candidate
from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.models import ModelDescriptor
from dreamforge.contracts.vram import estimate_vram_bytes

# A resident model saves its load, which takes longer than any other difference between two idle runners.
RESIDENT_SCORE = 100.0
# Of two runners with the model, the one with more idle slots; of two equals, the tighter fit keeps big cards free.
IDLE_SCORE = 10.0
TIGHT_FIT_SCORE = 5.0


class Needs(Protocol):
    """All that placement asks of a request, so that a scheduler need not keep 100,000 prompts. RenderRequest has it."""

    @property
    def model_id(self) -> str: ...
    @property
    def height_px(self) -> int: ...
    @property
    def width_px(self) -> int: ...


@dataclass(frozen=True, slots=True)
class RunnerLoad:
    """A live runner with what is already promised to it (assigned or running, from the log)."""

    beat: Heartbeat
    committed_bytes: int = 0
    committed_slots: int = 0

    @property
    def free_slots(self) -> int:
        """Attempts it can still take."""
        return max(0, self.beat.slots - self.committed_slots)


def required_bytes(request: Needs, model: ModelDescriptor) -> int:
    """Peak memory of one render of this request; images of a job are rendered one by one (batch 1)."""
    return estimate_vram_bytes(model.vram, batch=1, height_px=request.height_px, width_px=request.width_px)


def judge(request: Needs, model: ModelDescriptor | None, runner: RunnerLoad) -> Candidate:
    """Score a runner for a request, or refuse it with the reason and the numbers. Higher scores are better."""
    beat = runner.beat
    refusal = _refusal(request, model, runner)
    if refusal:
        return Candidate(runner_id=beat.runner_id, refused=refusal)
    assert model is not None
    need = required_bytes(request, model)
    resident = request.model_id in beat.resident_model_ids
    idle = runner.free_slots / beat.slots
    fit = need / max(1, beat.budget_bytes - runner.committed_bytes)
    reasons = (
        "model is loaded" if resident else "model must be loaded",
        f"{runner.free_slots} of {beat.slots} slots free",
        f"needs {need} of {beat.budget_bytes - runner.committed_bytes} bytes",
    )
    score = RESIDENT_SCORE * resident + IDLE_SCORE * idle + TIGHT_FIT_SCORE * fit
    return Candidate(runner_id=beat.runner_id, score=round(score, 3), reasons=reasons)


def _refusal(request: Needs, model: ModelDescriptor | None, runner: RunnerLoad) -> str | None:
    beat = runner.beat
    if beat.draining:
        return "draining: it takes no new work"
    if model is None or request.model_id not in beat.model_ids:
        return f"does not have model {request.model_id!r}"
    try:
        need = required_bytes(request, model)
    except SizeNotSupported as error:
        return str(error)
    if need > beat.budget_bytes:
        return f"too small: needs {need} bytes, can offer {beat.budget_bytes}"
    if runner.free_slots < 1:
        return f"busy: all {beat.slots} slots taken"
    if need > beat.budget_bytes - runner.committed_bytes:
        return f"no headroom: needs {need} bytes, {beat.budget_bytes - runner.committed_bytes} left"
    return None
