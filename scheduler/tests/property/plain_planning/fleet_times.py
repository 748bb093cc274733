"""How long renders take, as `planning.fleet_times` has it, read again from all heartbeats for each plan."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from math import log
from statistics import median

from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.measured_times import MeasuredTimes
from dreamforge.contracts.placement import Models, Needs
from dreamforge.scheduler.planning.fleet_times import GUESSED_BYTES_PER_SECOND
from dreamforge.scheduler.planning.measured_pace import MEASURED, Pace, guessed, parsed_size


class PlainFleetTimes:
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
    sizes = (
        (abs(log(pixels / other)), pixels / other, name, pace) for name, other, pace in _of_model(shape.model_id, paces)
    )
    found = min(sizes, key=lambda size: size[:3], default=None)
    return None if found is None else found[3].scaled(found[1])


def _of_model(model_id: str, paces: Mapping[str, Pace]) -> Iterator[tuple[str, int, Pace]]:
    for shape, pace in paces.items():
        _, of_model, pixels = parsed_size(shape)
        if of_model == model_id and pixels:
            yield shape, pixels, pace


def _median(paces: list[Pace]) -> Pace:
    return sorted(paces, key=lambda pace: pace.run_seconds(1, 1.0))[len(paces) // 2]
