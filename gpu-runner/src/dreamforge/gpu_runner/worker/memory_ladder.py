"""What to try next when a render ran out of memory. Pure: values in, a rung out."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from dreamforge.gpu_runner.protocol.memory_rungs import Held, Rung

#: Those that give another picture, and not only faint seams.
LOSSY = frozenset({Rung.FLOAT8_STORAGE, Rung.QUANTISED_WEIGHTS})


@dataclass(frozen=True, slots=True)
class LadderState:
    """How the render was tried that failed."""

    #: How many images were in the run.
    batch: int
    held: Held
    #: Whether the failure made models leave that this render does not need.
    others_left: bool = False
    #: Whether its owner asked for the bytes that every runner gives.
    strict: bool = False
    #: Whether its owner allowed weights of fewer bits.
    quantised_allowed: bool = False
    #: Why this renderer cannot take a rung.
    refusals: Mapping[Rung, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NextRung:
    """The rung to take, None: there is none left; and why those before it were left out."""

    rung: Rung | None
    skipped: tuple[tuple[Rung, str], ...]

    @property
    def reasons(self) -> str:
        """Why rungs were left out, for people; those with one reason are named together.

        >>> NextRung(None, ((Rung.OFFLOAD_MODEL, "in use"), (Rung.OFFLOAD_GROUP, "in use"))).reasons
        'offload_model, offload_group: in use'
        """
        whys = dict.fromkeys(why for _, why in self.skipped)
        return "; ".join(f"{', '.join(rung for rung, of in self.skipped if of == why)}: {why}" for why in whys)


def next_rung(state: LadderState) -> NextRung:
    """The first rung that can help.

    >>> next_rung(LadderState(batch=4, held=Held(), others_left=True)).rung
    <Rung.RELEASE: 'release'>
    >>> next_rung(LadderState(batch=1, held=Held(offload="model"))).rung
    <Rung.OFFLOAD_GROUP: 'offload_group'>
    """
    skipped: list[tuple[Rung, str]] = []
    for rung in Rung:
        if (why := _why_not(rung, state)) is None:
            return NextRung(rung, tuple(skipped))
        skipped.append((rung, why))
    return NextRung(None, tuple(skipped))


def _why_not(rung: Rung, state: LadderState) -> str | None:
    if rung is Rung.RELEASE:
        return None if state.others_left else "no other model was in memory"
    if rung is Rung.SMALLER_BATCH:
        return None if state.batch > 1 else "it is one image"
    if state.held.after([rung]) == state.held:
        return "in use"
    if rung in LOSSY and state.strict:
        return "it changes pixels, and determinism is strict"
    if rung is Rung.QUANTISED_WEIGHTS and not state.quantised_allowed:
        return "neither the request nor its preset allows it (allow_quantised)"
    return state.refusals.get(rung)
