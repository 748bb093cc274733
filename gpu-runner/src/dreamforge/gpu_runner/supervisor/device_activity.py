"""What the device is used for, as seconds that add up to those of the clock: their rates are its shares of time."""

from collections.abc import Callable
from dataclasses import dataclass, field

from dreamforge.gpu_runner import metrics
from dreamforge.runtime import clock

ACTIVITIES = ("idle", "render", "load")


def _count(activity: str, seconds: float) -> None:
    metrics.DEVICE_SECONDS.labels(activity).inc(seconds)


@dataclass(slots=True)
class DeviceActivity:
    """One device. It loads while a model is read, renders while the child has tasks, and is idle otherwise."""

    count: Callable[[str, float], None] = _count
    now: Callable[[], float] = clock.monotonic_seconds
    _tasks: set[str] = field(default_factory=set)
    _loading: bool = False
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        self._since = self.now()
        for activity in ACTIVITIES:
            self.count(activity, 0.0)

    def tell(self) -> None:
        """Count until now."""
        now = self.now()
        self.count("load" if self._loading else "render" if self._tasks else "idle", max(0.0, now - self._since))
        self._since = now

    def given(self, *task_ids: str) -> None:
        """The child has these tasks, too."""
        self.tell()
        self._tasks.update(task_ids)

    def ended(self, task_id: str) -> None:
        """The child is done with one."""
        self.tell()
        self._tasks.discard(task_id)

    def loading(self, is_loading: bool) -> None:
        """A model is being read, or not any more."""
        self.tell()
        self._loading = is_loading

    def gone(self) -> None:
        """There is no child."""
        self.tell()
        self._tasks.clear()
        self._loading = False
