"""How long a render and a load take on each runner, from what the runners have measured. No I/O, no clock.

Best first: what the runner measured for this model and size; its own nearest size of the model, by pixels; the same
model on a runner of the same device; on another device, by the ratio of what both devices have measured. What nothing
says is guessed, and a guess only sends work to a runner: no job waits because of one.

A fold of heartbeats: one heartbeat changes what follows from it and nothing else, so that a plan for one more job does
not read the whole fleet again. What a fold of the same heartbeats in any order answers is the same.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from dreamforge.contracts.fleet import Heartbeat
from dreamforge.contracts.measured_times import MeasuredTimes
from dreamforge.contracts.placement import Models, Needs
from dreamforge.scheduler.planning.device_times import DeviceTimes
from dreamforge.scheduler.planning.least_times import LeastTimes
from dreamforge.scheduler.planning.measured_pace import (
    GUESSED,
    Pace,
    SizeOfModel,
    guessed,
    measured_pace,
    nearest_pace,
    parsed_size,
)

# A SATA disk, the slowest that weights usually lie on.
GUESSED_BYTES_PER_SECOND = 5e8
NO_TIMES = MeasuredTimes()
NO_LEAST = LeastTimes()
Found = tuple[int, Pace | None]
"""An answer that depends on many runners, and the version of the fold that it was found at."""


@dataclass(slots=True)
class _Runner:
    """What one runner has measured, by model and size, and what was found from that."""

    heartbeat: Heartbeat
    device_name: str
    device: DeviceTimes
    loads: Mapping[str, float] = field(default_factory=dict)
    bytes_per_second: float = GUESSED_BYTES_PER_SECOND
    of_model: dict[str, dict[str, Pace]] = field(default_factory=dict)
    nearest: dict[str, Pace | None] = field(default_factory=dict)


class FleetTimes:
    """What all runners have measured."""

    def __init__(self, fleet: Iterable[Heartbeat], models: Models) -> None:
        self._models = models
        self._runners: dict[str, _Runner] = {}
        self._devices: dict[str, DeviceTimes] = {}
        self._measuring: set[str] = set()
        self._quickest: dict[str, dict[str, float]] = {}  # of each measured shape: seconds a step, by runner
        self._least: dict[str, LeastTimes] = {}  # by model
        self._version = 0
        self._of_devices: dict[tuple[str, str], Found] = {}
        self._fastest: dict[str, Found] = {}
        self._ratios: dict[tuple[str, str], tuple[int, int, float | None]] = {}
        for heartbeat in fleet:
            self.observe(heartbeat)

    @property
    def measured(self) -> bool:
        """Whether anything was measured; otherwise no time can be told."""
        return bool(self._measuring)

    def observe(self, heartbeat: Heartbeat) -> None:
        """Fold a heartbeat."""
        name, runner = heartbeat.runner_id, self._runners.get(heartbeat.runner_id)
        if runner is not None and runner.device_name != _device(heartbeat):
            self.forget(name)
            runner = None
        if runner is None:
            self._version += 1  # what is found over all runners is found again
            device = self._devices.setdefault(_device(heartbeat), DeviceTimes())
            nothing = heartbeat.model_copy(update={"times": NO_TIMES})
            runner = self._runners[name] = _Runner(nothing, _device(heartbeat), device)
        before, runner.heartbeat = runner.heartbeat.times, heartbeat
        if before != heartbeat.times:
            runner.loads = heartbeat.times.loads
            runner.bytes_per_second = heartbeat.times.load_bytes_per_second or GUESSED_BYTES_PER_SECOND
            self._learn(runner, before)

    def forget(self, runner_id: str) -> None:
        """A runner is gone."""
        if (runner := self._runners.get(runner_id)) is not None:
            before = runner.heartbeat.times
            runner.heartbeat = runner.heartbeat.model_copy(update={"times": NO_TIMES})
            self._learn(runner, before)
            del self._runners[runner_id]
            self._version += 1
            if all(other.device is not runner.device for other in self._runners.values()):
                del self._devices[runner.device_name]

    def _learn(self, runner: _Runner, before: MeasuredTimes) -> None:
        """Change what follows from the shapes whose times have changed."""
        times, name = runner.heartbeat.times, runner.heartbeat.runner_id
        (self._measuring.add if times.steps else self._measuring.discard)(name)
        shapes = before.steps.keys() | times.steps.keys()
        if not (learnt := [shape for shape in shapes if _of(before, shape) != _of(times, shape)]):
            return
        self._version += 1
        runner.nearest.clear()
        for shape in learnt:
            self._put(runner, shape, measured_pace(shape, times))
        for model_id in {parsed_size(shape).model_id for shape in learnt}:
            self._bound(runner, model_id)

    def _put(self, runner: _Runner, shape: str, pace: Pace | None) -> None:
        name, steps = runner.heartbeat.runner_id, runner.heartbeat.times.steps.get(shape)
        paces = runner.of_model.setdefault(parsed_size(shape).model_id, {})
        quickest = self._quickest.setdefault(shape, {})
        runner.device.put(shape, name, pace)
        if pace is None:
            paces.pop(shape, None)
        else:
            paces[shape] = pace
        if steps:
            quickest[name] = min(steps.values())
        else:
            quickest.pop(name, None)

    def _bound(self, runner: _Runner, model_id: str) -> None:
        """No size of the model, scaled to another one, is rendered faster on this runner."""
        sized = [(parsed_size(shape).pixels, pace) for shape, pace in runner.of_model[model_id].items()]
        bounds = [(min(pace.steps.values()) / pixels, pace.beside_seconds / pixels) for pixels, pace in sized if pixels]
        least = self._least.setdefault(model_id, LeastTimes())
        least.put(runner.heartbeat.runner_id, tuple(map(min, zip(*bounds, strict=True))) if bounds else None)

    def pace(self, shape: Needs, runner_id: str) -> Pace:
        """How fast a runner renders a shape."""
        return self.pace_of(SizeOfModel.of(shape), shape, runner_id)

    def pace_of(self, size: SizeOfModel, shape: Needs, runner_id: str) -> Pace:
        """The same, for a caller that asks for the size of this shape more than once."""
        runner = self._runners[runner_id]
        own = runner.nearest.get(size.name)
        if own is None and size.model_id in runner.of_model:
            of_model = runner.of_model[size.model_id]
            own = of_model.get(size.name) or nearest_pace(
                size, ((parsed_size(other), pace) for other, pace in of_model.items())
            )
            runner.nearest[size.name] = own
        return own or self._of_device(size, runner) or guessed(shape, runner.heartbeat.device.kind)

    def paces(self, size: SizeOfModel, shape: Needs, runner_ids: Iterable[str]) -> list[Pace]:
        """The same of several runners."""
        runners, name, pace_of = self._runners, size.name, self.pace_of
        return [runners[each].nearest.get(name) or pace_of(size, shape, each) for each in runner_ids]

    def fastest_measured(self, shape: Needs) -> str | None:
        """The runner whose steps of a shape are the fastest that were measured; None if none has measured it."""
        found = self._quickest.get(shape.batch_shape)
        return min((seconds, name) for name, seconds in found.items())[1] if found else None

    def fastest(self, size: SizeOfModel, shape: Needs) -> Pace | None:
        """The pace of the fastest runner that has measured a shape, or else one that it can be scaled from."""
        kept = self._fastest.get(size.name)
        if kept is None or kept[0] != self._version:
            kept = self._fastest[size.name] = (self._version, self._find_fastest(size, shape))
        return kept[1]

    def _find_fastest(self, size: SizeOfModel, shape: Needs) -> Pace | None:
        measured = self.fastest_measured(shape)
        names = sorted(self._runners) if measured is None else (measured,)
        paces = (self.pace_of(size, shape, name) for name in names)
        known = (pace for pace in paces if pace.source is not GUESSED)
        return min(known, key=lambda pace: pace.run_seconds(1, 1.0), default=None)

    def least_of(self, model_id: str) -> LeastTimes:
        """What no runner takes less than for a pixel of a model; nothing, if one may be scaled from another device."""
        least = self._least.get(model_id)
        if least is None or any(not device.has_model(model_id) for device in self._devices.values()):
            return NO_LEAST
        return least

    def load_seconds(self, model_id: str, runner_id: str) -> float:
        """How long a runner takes to load a model, which must be registered."""
        runner = self._runners[runner_id]
        if (seconds := runner.loads.get(model_id)) is not None:
            return seconds
        return self._models[model_id].vram.resident_bytes / runner.bytes_per_second

    def loading(self, runner_id: str) -> tuple[Mapping[str, float], float]:
        """The seconds of the loads that a runner has measured, by model, and what it takes a byte of any other."""
        runner = self._runners[runner_id]
        return runner.loads, 1 / runner.bytes_per_second

    def _of_device(self, size: SizeOfModel, runner: _Runner) -> Pace | None:
        """From the same device elsewhere, or from others by the ratio of the two; of several the median."""
        name = runner.device_name
        kept = self._of_devices.get((name, size.name))
        if kept is None or kept[0] != self._version:
            same = runner.device.nearest(size)
            found = same.scaled(1.0) if same else self._of_other_devices(size, name)
            kept = self._of_devices[name, size.name] = (self._version, found)
        return kept[1]

    def _of_other_devices(self, size: SizeOfModel, device: str) -> Pace | None:
        found = sorted(self._scaled_from_others(size, device), key=lambda pace: pace.run_seconds(1, 1.0))
        return found[len(found) // 2] if found else None

    def _scaled_from_others(self, size: SizeOfModel, device: str) -> Iterator[Pace]:
        for other in sorted(self._devices):
            if (ratio := self._ratio(device, other)) is not None and (pace := self._devices[other].nearest(size)):
                yield pace.scaled(ratio)

    def _ratio(self, device: str, other: str) -> float | None:
        ours, theirs = self._devices[device], self._devices[other]
        kept = self._ratios.get((device, other))
        if kept is None or kept[:2] != (ours.version, theirs.version):
            kept = self._ratios[device, other] = (ours.version, theirs.version, ours.ratio(theirs))
        return kept[2]


def _device(heartbeat: Heartbeat) -> str:
    return f"{heartbeat.device.kind} {heartbeat.device.name}"


def _of(times: MeasuredTimes, shape: str) -> tuple[object, ...]:
    return times.steps.get(shape), times.beside.get(shape), times.after.get(shape)
