"""What renders of each shape were seen to need of this device, kept over restarts of child and runner: memory, how many
images go together, and how long they take.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

from loguru import logger
from pydantic import AwareDatetime, Field, ValidationError

from dreamforge.contracts.measured_times import SHAPES_MAX, MeasuredTimes
from dreamforge.contracts.models.descriptor import Value
from dreamforge.contracts.observed_memory import ObservedMemory
from dreamforge.gpu_runner.protocol.memory_rungs import Rung
from dreamforge.gpu_runner.protocol.messages import BatchLearnt, MemoryObserved, RungsLearnt

#: A choice: what was learnt while something else was in the way is tried anew after a week.
KEPT = timedelta(days=7)
#: A choice: for so long other runners are preferred for a shape that did not fit whatever was done.
EXHAUSTED_KEPT = timedelta(hours=1)
#: A choice: medians of seven runs differ by less from one moment to the next, and each change writes the file.
MOVED_PART = 0.2


class BatchRuns(Value):
    """How many images are rendered in one run, and the least seconds an image and step of each size that was tried."""

    bound: int = Field(ge=1)
    seconds: dict[int, float] = Field(default_factory=dict)


class ShapeMemory(Value):
    """Of one shape (see `contracts.fleet.batch_shape`), and since when it is known."""

    at: AwareDatetime
    rungs: tuple[Rung, ...] = ()
    #: The most bytes that the child had held by the last such render; 0: no rung was needed.
    peak_bytes: int = Field(default=0, ge=0)
    #: How many images of one run fit; None: as many as were tried.
    fits: int | None = Field(default=None, ge=1)
    #: The highest peak of one image alone with these rungs, by tier.
    peaks: dict[str, int] = Field(default_factory=dict)
    #: The same of runs of several images, by tier and by how many they were.
    batch_peaks: dict[str, dict[int, int]] = Field(default_factory=dict)
    #: When it last did not fit with every rung there is; None: since then it did.
    exhausted_at: AwareDatetime | None = None
    #: By what the steps of the run do (see `contracts.request.batch_key.step_work`).
    runs: dict[str, BatchRuns] = Field(default_factory=dict)

    def further_bytes(self, tier: str) -> int | None:
        """What each further image of a run takes: the steepest rise between two sizes; None: no two were seen."""
        alone = {1: self.peaks[tier]} if tier in self.peaks else {}
        seen = self.batch_peaks.get(tier, {}) | alone
        rises = (-((seen[fewer] - seen[more]) // (more - fewer)) for fewer, more in pairwise(sorted(seen)))
        steepest = max(rises, default=0)
        return steepest if steepest > 0 else None

    def batch_seconds(self, work: str) -> Mapping[int, float]:
        """Of runs that do this."""
        return self.runs[work].seconds if work in self.runs else {}

    @property
    def batch_bound(self) -> int | None:
        """The largest of its runs; None: none has ended yet."""
        return max((each.bound for each in self.runs.values()), default=None)


class DeviceMemory(Value):
    """The file: shapes of one device, the one that was learnt last at the end, and the times that it has measured."""

    device: str = ""
    shapes: dict[str, ShapeMemory] = Field(default_factory=dict)
    times: MeasuredTimes = MeasuredTimes()
    times_at: AwareDatetime | None = None


@dataclass(slots=True)
class LearntMemory:
    """Reads `path` once a device is known, and writes it with each change. A file that is none is an empty one."""

    path: Path
    now: Callable[[], datetime]
    _known: DeviceMemory = field(default_factory=DeviceMemory)

    def open(self, device: str) -> None:
        """Take what the file says of this device; of another one it says nothing."""
        read = self._read()
        self._known = read if read.device == device else DeviceMemory(device=device)

    def of(self, shape: str) -> ShapeMemory:
        """What is known of a shape, and not too old."""
        known = self._known.shapes.get(shape)
        return known if known and self.now() - known.at < KEPT else ShapeMemory(at=self.now())

    @property
    def observed(self) -> ObservedMemory:
        """What heartbeats say of it."""
        known = {shape: self.of(shape) for shape in self._known.shapes}
        return ObservedMemory(
            peaks={shape: each.peaks for shape, each in known.items() if each.peaks},
            further={shape: found for shape, each in known.items() if (found := _further(each))},
            rungs={shape: tuple(each.rungs) for shape, each in known.items() if each.rungs},
            exhausted=tuple(shape for shape, each in known.items() if self._is_exhausted(each)),
        )

    @property
    def times(self) -> MeasuredTimes:
        """What was measured before this process, if that is not too old."""
        at = self._known.times_at
        return self._known.times if at is not None and self.now() - at < KEPT else MeasuredTimes()

    def keep_times(self, times: MeasuredTimes) -> None:
        """Keep what is measured now, where that is more than noise: not after each run."""
        if has_moved(self._known.times, times):
            self._known = self._known.model_copy(update={"times": times, "times_at": self.now()})
            self._write()

    def batch_bounds(self, most: int) -> dict[str, int]:
        """Likewise, of how many images go together; `most` at most, which may have been more when it was learnt."""
        known = ((shape, self.of(shape).batch_bound) for shape in self._known.shapes)
        return {shape: min(bound, most) for shape, bound in known if bound is not None}

    def _is_exhausted(self, known: ShapeMemory) -> bool:
        return known.exhausted_at is not None and self.now() - known.exhausted_at < EXHAUSTED_KEPT

    def learn(self, message: BatchLearnt | RungsLearnt | MemoryObserved) -> bool:
        """Keep what a child has learnt; whether another number of images goes together, which is told at once."""
        before = self.of(message.shape)
        changed = before.model_copy(update=self._changes(before, message))
        if changed == before:
            return False
        shapes = {shape: each for shape, each in self._known.shapes.items() if shape != message.shape}
        shapes[message.shape] = changed
        latest = dict(list(shapes.items())[-SHAPES_MAX:])
        self._known = self._known.model_copy(update={"shapes": latest})
        self._write()
        return changed.batch_bound != before.batch_bound

    def _changes(self, before: ShapeMemory, message: BatchLearnt | RungsLearnt | MemoryObserved) -> dict[str, object]:
        match message:
            case BatchLearnt():
                return _runs_after(before, message) | ({} if message.fits is None else {"fits": message.fits})
            case RungsLearnt(rungs=rungs, peak_bytes=peak_bytes):
                seen_so: dict[str, object] = {} if rungs == before.rungs else {"peaks": {}, "batch_peaks": {}}
                return {"rungs": rungs, "peak_bytes": peak_bytes} | seen_so
            case MemoryObserved(exhausted=True):
                return {"exhausted_at": self.now()}
            case MemoryObserved():
                return {"exhausted_at": None} | _peaks_after(before, message)

    def _read(self) -> DeviceMemory:
        try:
            return DeviceMemory.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return DeviceMemory()
        except (OSError, ValidationError) as error:
            logger.warning("what was learnt of memory is forgotten: {} does not read: {}", self.path, error)
            return DeviceMemory()

    def _write(self) -> None:
        draft = self.path.with_suffix(".draft")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(self._known.model_dump_json())
            draft.replace(self.path)
        except OSError as error:
            logger.warning("what was learnt of memory is lost with this process: {}", error)


def has_moved(before: MeasuredTimes, now: MeasuredTimes) -> bool:
    """Whether something was measured for the first time, or has become longer or shorter by more than MOVED_PART.

    >>> once = MeasuredTimes(beside={"m 64x64": 1.0})
    >>> has_moved(MeasuredTimes(), once), has_moved(once, MeasuredTimes(beside={"m 64x64": 1.1}))
    (True, False)
    """
    old, new = _numbers(before), _numbers(now)
    return old.keys() != new.keys() or any(abs(new[name] - old[name]) > MOVED_PART * old[name] for name in new)


def _numbers(times: MeasuredTimes) -> dict[tuple[str, ...], float]:
    """Every number by where it stands."""
    found: dict[tuple[str, ...], float] = {
        ("steps", shape, str(size)): each for shape, sizes in times.steps.items() for size, each in sizes.items()
    }
    for kind, by_name in (("beside", times.beside), ("after", times.after), ("loads", times.loads)):
        found.update({(kind, name): each for name, each in by_name.items()})
    if times.load_bytes_per_second is not None:
        found["rate",] = times.load_bytes_per_second
    return found


def _further(known: ShapeMemory) -> dict[str, int]:
    """By tier."""
    found = {tier: known.further_bytes(tier) for tier in {**known.peaks, **known.batch_peaks}}
    return {tier: further_bytes for tier, further_bytes in found.items() if further_bytes is not None}


def _peaks_after(before: ShapeMemory, message: MemoryObserved) -> dict[str, object]:
    """The highest count."""
    tier, images, peak_bytes = message.tier, message.images, message.peak_bytes or 0
    if images == 1:
        highest = max(before.peaks.get(tier, 0), peak_bytes)
        return {"peaks": before.peaks | ({tier: highest} if highest else {})}
    seen = before.batch_peaks.get(tier, {})
    highest = max(seen.get(images, 0), peak_bytes)
    return {"batch_peaks": before.batch_peaks | ({tier: seen | {images: highest}} if highest else {})}


def _runs_after(before: ShapeMemory, message: BatchLearnt) -> dict[str, object]:
    """Kept where the bound is another, or a size was seen for the first time: not after each run that was faster."""
    known = before.runs.get(message.work)
    if known and (known.bound, known.seconds.keys()) == (message.bound, message.seconds.keys()):
        return {}
    learnt = BatchRuns(bound=message.bound, seconds=message.seconds)
    return {"runs": before.runs | {message.work: learnt}}
