"""Compares a picture with its caption, attribute by attribute; what the caption leaves open is not asked for."""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from draw import Picture
from grammar import Caption, Group
from layout import MIDDLE
from readback import Reading, Thing, read
from words import BROWN, COLOURS, GREY, NAVY, PLACES, RELATIONS, SKIES, SKY, Rgb

#: Radii in pixels that part small from medium and medium from large; alone, and beside others.
ALONE_BOUNDS_PX = (11.7, 17.8)
AMONG_BOUNDS_PX = (9.4, 12.1)
#: A thing stands to one side if its centre is this share of the way from the middle to where it would touch.
ASIDE = 0.45
#: An outline must share this much of its area with the shape it is taken for; small ground truth has 0.69.
LIKENESS_MIN = 0.65


@dataclass(frozen=True, slots=True)
class Verdict:
    """One attribute that a caption states, and whether the picture has it."""

    attribute: str
    right: bool


@dataclass(frozen=True, slots=True)
class Probe:
    """A part of a scene: this share of these rows and columns has this colour."""

    attribute: str
    rows: tuple[int, int]
    columns: tuple[int, int]
    rgb: Rgb
    share: float


def judge(caption: Caption, picture: Picture) -> list[Verdict]:
    """All verdicts of one picture, in the order: count, then each group's attributes, relation, background."""
    if caption.scene:
        return [Verdict(probe.attribute, _holds(probe, picture)) for probe in _probes(caption)]
    reading = read(picture)
    wanted = [group for group in caption.groups for _ in range(group.count)]
    things = _matched(wanted, reading.things)
    verdicts = [Verdict("count", len(reading.things) == len(wanted))]
    alone = len(wanted) == 1
    for group, thing in zip(wanted[:1] if len(caption.groups) == 1 else wanted, things, strict=False):
        same = things if len(caption.groups) == 1 else (thing,)
        verdicts += _group_verdicts(group, same, alone=alone)
    if len(caption.groups) == 2:
        verdicts.append(Verdict("relation", _related(caption, things)))
    return verdicts + _background_verdict(caption, reading)


def _matched(wanted: list[Group], things: tuple[Thing, ...]) -> tuple[Thing | None, ...]:
    """Things in the order of the wanted ones, as they fit best; None where there is none."""
    pool: list[Thing | None] = sorted(things, key=lambda thing: -thing.radius_px)[:4]  # type: ignore[assignment]
    pool += [None] * (len(wanted) - len(pool))
    return max(permutations(pool, len(wanted)), key=lambda chosen: _fit(wanted, chosen))


def _fit(wanted: list[Group], chosen: tuple[Thing | None, ...]) -> int:
    return sum(
        2 * (group.colour == thing.colour) + (group.shape == thing.shape)
        for group, thing in zip(wanted, chosen, strict=True)
        if thing
    )


def _group_verdicts(group: Group, things: tuple[Thing | None, ...], *, alone: bool) -> list[Verdict]:
    verdicts = [Verdict("shape", all(_has_shape(group, thing) for thing in things))]
    if group.colour:
        verdicts.append(Verdict("colour", all(thing is not None and thing.colour == group.colour for thing in things)))
    if group.size:
        bounds = ALONE_BOUNDS_PX if alone else AMONG_BOUNDS_PX
        verdicts.append(Verdict("size", all(_has_size(group.size, thing, bounds) for thing in things)))
    if group.place:
        verdicts.append(Verdict("place", _has_place(PLACES[group.place], things[0])))
    return verdicts


def _has_shape(group: Group, thing: Thing | None) -> bool:
    return thing is not None and thing.shape == group.shape and thing.likeness >= LIKENESS_MIN


def _has_size(size: str, thing: Thing | None, bounds: tuple[float, float]) -> bool:
    if thing is None:
        return False
    return thing.radius_px < bounds[0] if size == "small" else thing.radius_px > bounds[1]


def _has_place(place: tuple[int, int], thing: Thing | None) -> bool:
    if thing is None:
        return False
    reach = max(1.0, MIDDLE - thing.radius_px - 3)
    offsets = ((thing.x - MIDDLE) / reach, (thing.y - MIDDLE) / reach)
    return all(abs(o) < ASIDE if side == 0 else o * side > ASIDE for o, side in zip(offsets, place, strict=True))


def _related(caption: Caption, things: tuple[Thing | None, ...]) -> bool:
    first, second = things
    if first is None or second is None:
        return False
    dx, dy = RELATIONS[caption.relation or "and"]
    along = (second.x - first.x) * dx + (second.y - first.y) * dy
    across = abs((second.x - first.x) * dy) + abs((second.y - first.y) * dx)
    return along > max(10.0, across)


def _background_verdict(caption: Caption, reading: Reading) -> list[Verdict]:
    if caption.background is None:
        return []
    return [Verdict("background", reading.background == caption.background)]


def _probes(caption: Caption) -> list[Probe]:
    green, blue, white, yellow = (COLOURS[name] for name in ("green", "blue", "white", "yellow"))
    sky = Probe("scene sky", (0, 6), (0, 64), NAVY if caption.scene == "stars" else SKIES[caption.sky], 0.6)
    match caption.scene:
        case "sea":
            parts = [
                Probe("scene part", (45, 64), (0, 64), blue, 0.8),
                Probe("scene part", (4, 32), (8, 56), yellow, 0.08),
            ]
        case "mountains":
            grey = Probe("scene part", (25, 50), (0, 64), GREY, 0.3)
            parts = [
                grey,
                Probe("scene part", (56, 64), (0, 64), green, 0.8),
                Probe("scene part", (14, 36), (8, 56), white, 0.03),
            ]
        case "stars":
            parts = [
                Probe("scene part", (3, 32), (28, 62), yellow, 0.06),
                Probe("scene part", (4, 60), (2, 58), white, 0.015),
            ]
        case _:
            parts = [
                Probe("scene part", (56, 64), (0, 64), green, 0.6),
                Probe("scene part", (22, 40), (41, 57), green, 0.4),
                Probe("scene part", (20, 32), (8, 34), BROWN, 0.25),
            ]
    if caption.house_colour:
        parts.append(Probe("scene colour", (34, 42), (13, 29), COLOURS[caption.house_colour], 0.6))
    return [sky, *parts]


def _holds(probe: Probe, picture: Picture) -> bool:
    part = picture[slice(*probe.rows), slice(*probe.columns)].reshape(-1, 1, 3).astype(np.float32)
    nearest = np.linalg.norm(part - _SCENE_RGB, axis=-1).argmin(axis=1)
    return float((nearest == _SCENE_COLOURS.index(probe.rgb)).mean()) >= probe.share


_SCENE_COLOURS = [*COLOURS.values(), GREY, BROWN, NAVY, SKY]
_SCENE_RGB = np.asarray(_SCENE_COLOURS, np.float32)[None]
