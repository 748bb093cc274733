"""How fast a runner renders a shape, and what of it follows from one heartbeat alone. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log, prod
from typing import NamedTuple

from dreamforge.contracts.events import EstimateSource
from dreamforge.contracts.measured_times import MeasuredTimes
from dreamforge.contracts.placement import Needs

# Seconds a pixel and step where nothing was measured. SDXL at 1024 x 1024 takes about 0.1 s a step on a card of 2022
# (a megapixel, so 1e-7), ten times that on a laptop's, and a thousand times on a processor.
GUESSED_SECONDS_A_PIXEL = {"cuda": 1e-7, "mps": 1e-6, "cpu": 1e-4}
MEASURED, SCALED, GUESSED = EstimateSource.MEASURED, EstimateSource.SCALED, EstimateSource.GUESSED


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a runner renders a shape. `steps`: seconds an image and step, by images in the run.

    `after_seconds` are spent while the device renders the next image, so of a job only those of its last image count.
    """

    steps: Mapping[int, float]
    beside_seconds: float
    source: EstimateSource
    after_seconds: float = 0.0

    def run_seconds(self, images: int, steps: float, together: int = 1) -> float:
        """Of the device: so many images, `together` of them in a run.

        >>> Pace({1: 2.0, 4: 1.0}, 0.5, MEASURED).run_seconds(8, 10, 4)
        84.0
        """
        return images * (steps * self.step_seconds(together) + self.beside_seconds)

    def step_seconds(self, together: int = 1) -> float:
        """Of an image, at the largest measured size that is no larger, or else at the smallest there is."""
        if together in self.steps:
            return self.steps[together]
        return self.steps[max((size for size in self.steps if size <= together), default=min(self.steps))]

    def scaled(self, factor: float) -> "Pace":
        """The same, so many times as slow."""
        steps = {size: seconds * factor for size, seconds in self.steps.items()}
        return replace(self, steps=steps, beside_seconds=self.beside_seconds * factor, source=SCALED)


class SizeOfModel(NamedTuple):
    """What paces are measured for: a shape without its assets (see `contracts.fleet.batch_shape`)."""

    name: str
    model_id: str
    pixels: int

    @staticmethod
    def of(shape: Needs) -> "SizeOfModel":
        """That of a shape; pixels of all frames."""
        return SizeOfModel(shape.batch_shape, shape.model_id, shape.width_px * shape.height_px * shape.frames)


def measured_pace(shape: str, times: MeasuredTimes) -> Pace | None:
    """What was measured for a shape. Its times beside and after the steps are 0 until they are known."""
    steps = times.steps.get(shape)
    if not steps or min(steps.values()) <= 0:
        return None
    return Pace(steps, times.beside.get(shape, 0.0), MEASURED, times.after.get(shape, 0.0))


def nearest_pace(size: SizeOfModel, paces: Iterable[tuple[SizeOfModel, Pace]]) -> Pace | None:
    """The pace of a size, or that of the nearest size of its model, scaled by the pixels; of equals the first by name.

    `paces` are those of its model.
    """
    best: tuple[float, float, str] | None = None
    found: Pace | None = None
    for other, pace in paces:
        if other.name == size.name:
            return pace
        if other.pixels:
            ratio = size.pixels / other.pixels
            distance = (abs(log(ratio)), ratio, other.name)
            if best is None or distance < best:
                best, found = distance, pace
    return None if best is None or found is None else found.scaled(best[1])


@lru_cache(maxsize=4096)
def parsed_size(shape: str) -> SizeOfModel:
    """Model and pixels of a shape, of all frames; 0 pixels where another release has written it otherwise.

    >>> parsed_size("tiny 64x32")[1:], parsed_size("wan 64x32x5")[1:]
    (('tiny', 2048), ('wan', 10240))
    """
    model_id, _, size = shape.rpartition(" ")
    sides = size.split("x")
    return SizeOfModel(shape, model_id, prod(map(int, sides)) if all(side.isdecimal() for side in sides) else 0)


def guessed(shape: Needs, device_kind: str) -> Pace:
    """The pace of a shape of which nothing was measured."""
    a_pixel = GUESSED_SECONDS_A_PIXEL.get(device_kind, GUESSED_SECONDS_A_PIXEL["cpu"])
    return Pace({1: a_pixel * shape.width_px * shape.height_px * shape.frames}, 0.0, GUESSED)
