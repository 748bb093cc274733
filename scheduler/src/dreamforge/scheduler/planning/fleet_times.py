"""How long a render and a load take on each runner, from what the runners have measured. Pure.

Best first: what the runner measured for this model and size; its own nearest size of the model, by pixels; the same
model on a runner of the same device; on another device, by the ratio of what both devices have measured. What nothing
says is guessed, and a guess only sends work to a runner: no job waits because of one.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log, prod
from statistics import median

from dreamforge.contracts.events import EstimateSource
from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.measured_times import MeasuredTimes
from dreamforge.contracts.placement import Models, Needs

# Seconds a pixel and step where nothing was measured. SDXL at 1024 x 1024 takes about 0.1 s a step on a card of 2022
# (a megapixel, so 1e-7), ten times that on a laptop's, and a thousand times on a processor.
GUESSED_SECONDS_A_PIXEL = {"cuda": 1e-7, "mps": 1e-6, "cpu": 1e-4}
# A SATA disk, the slowest that weights usually lie on.
GUESSED_BYTES_PER_SECOND = 5e8
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


class FleetTimes:
    """What all runners have measured. Every answer is cached: one of these lives as long as one plan."""

    def __init__(self, fleet: Iterable[Heartbeat], models: Models) -> None:
        self._models = models
        self._fleet = {heartbeat.runner_id: heartbeat for heartbeat in fleet}
        self.measured = any(heartbeat.times.steps for heartbeat in self._fleet.values())
        self._found: dict[tuple[Needs, str], Pace] = {}
        self._devices: dict[str, dict[str, Pace]] | None = None
        self._ratios: dict[tuple[str, str], float | None] = {}

    def pace(self, shape: Needs, runner_id: str) -> Pace:
        """How fast a runner renders a shape."""
        if (pace := self._found.get((shape, runner_id))) is None:
            pace = self._found[shape, runner_id] = self._pace(shape, self._fleet[runner_id])
        return pace

    def fastest_measured(self, shape: Needs) -> str | None:
        """The runner whose steps of a shape are the fastest that were measured; None if none has measured it."""
        found = ((heartbeat.times.steps.get(shape.batch_shape), name) for name, heartbeat in self._fleet.items())
        return min(((min(steps.values()), name) for steps, name in found if steps), default=(0.0, None))[1]

    def _pace(self, shape: Needs, heartbeat: Heartbeat) -> Pace:
        return (
            _measured(shape.batch_shape, heartbeat.times)
            or _nearest(shape, _paces(heartbeat))
            or self._of_others(shape, heartbeat)
            or guessed(shape, heartbeat.device.kind)
        )

    def load_seconds(self, model_id: str, runner_id: str) -> float:
        """How long a runner takes to load a model, which must be registered."""
        times = self._fleet[runner_id].times
        if (seconds := times.loads.get(model_id)) is not None:
            return seconds
        return self._models[model_id].vram.resident_bytes / (times.load_bytes_per_second or GUESSED_BYTES_PER_SECOND)

    def _of_others(self, shape: Needs, heartbeat: Heartbeat) -> Pace | None:
        """From the same device elsewhere, or from others by the ratio of the two; of several the median."""
        device = _device(heartbeat)
        by_device = self._by_device()
        if same := _nearest(shape, by_device.get(device, {})):
            return same.scaled(1.0)
        found = []
        for other, paces in by_device.items():
            ratio = self._ratio(device, other)
            if ratio is not None and (pace := _nearest(shape, paces)):
                found.append(pace.scaled(ratio))
        return sorted(found, key=lambda pace: pace.run_seconds(1, 1.0))[len(found) // 2] if found else None

    def _by_device(self) -> dict[str, dict[str, Pace]]:
        """For each device, the median of its runners for each shape that one of them has measured."""
        if self._devices is None:
            seen: dict[str, dict[str, list[Pace]]] = defaultdict(lambda: defaultdict(list))
            for heartbeat in self._fleet.values():
                for shape, pace in _paces(heartbeat).items():
                    seen[_device(heartbeat)][shape].append(pace)
            self._devices = {
                device: {shape: _median(paces) for shape, paces in shapes.items()}
                for device, shapes in sorted(seen.items())
            }
        return self._devices

    def _ratio(self, device: str, other: str) -> float | None:
        """How many times as long a device takes as another, over the shapes that both have measured; None: none."""
        if (device, other) not in self._ratios:
            ours, theirs = (self._by_device().get(name, {}) for name in (device, other))
            both = ours.keys() & theirs.keys()
            ratios = [ours[each].run_seconds(1, 1.0) / theirs[each].run_seconds(1, 1.0) for each in both]
            self._ratios[device, other] = median(ratios) if ratios else None
        return self._ratios[device, other]


def _device(heartbeat: Heartbeat) -> str:
    return f"{heartbeat.device.kind} {heartbeat.device.name}"


def _paces(heartbeat: Heartbeat) -> dict[str, Pace]:
    """What a runner has measured, by shape."""
    measured = ((shape, _measured(shape, heartbeat.times)) for shape in heartbeat.times.steps)
    return {shape: pace for shape, pace in measured if pace is not None}


def _measured(shape: str, times: MeasuredTimes) -> Pace | None:
    """Its times beside and after the steps are 0 until they are known."""
    steps = times.steps.get(shape)
    if not steps or min(steps.values()) <= 0:
        return None
    return Pace(steps, times.beside.get(shape, 0.0), MEASURED, times.after.get(shape, 0.0))


def _nearest(shape: Needs, paces: Mapping[str, Pace]) -> Pace | None:
    """The pace of a shape, or that of the nearest size of its model, scaled by the pixels."""
    if (exact := paces.get(shape.batch_shape)) is not None:
        return exact
    pixels = shape.width_px * shape.height_px * shape.frames
    sizes = ((abs(log(pixels / other)), pixels / other, pace) for other, pace in _of_model(shape.model_id, paces))
    found = min(sizes, key=lambda size: size[:2], default=None)
    return None if found is None else found[2].scaled(found[1])


def _of_model(model_id: str, paces: Mapping[str, Pace]) -> Iterator[tuple[int, Pace]]:
    for shape, pace in paces.items():
        of_model, pixels = _parsed(shape)
        if of_model == model_id and pixels:
            yield pixels, pace


@lru_cache(maxsize=4096)
def _parsed(shape: str) -> tuple[str, int]:
    """Model and pixels of a shape, of all frames; 0 pixels where another release has written it otherwise.

    >>> _parsed("tiny 64x32"), _parsed("wan 64x32x5")
    (('tiny', 2048), ('wan', 10240))
    """
    model_id, _, size = shape.rpartition(" ")
    sides = size.split("x")
    return model_id, prod(map(int, sides)) if all(side.isdecimal() for side in sides) else 0


def _median(paces: list[Pace]) -> Pace:
    return sorted(paces, key=lambda pace: pace.run_seconds(1, 1.0))[len(paces) // 2]


def guessed(shape: Needs, device_kind: str) -> Pace:
    """The pace of a shape of which nothing was measured."""
    a_pixel = GUESSED_SECONDS_A_PIXEL.get(device_kind, GUESSED_SECONDS_A_PIXEL["cpu"])
    return Pace({1: a_pixel * shape.width_px * shape.height_px * shape.frames}, 0.0, GUESSED)
