"""The least that any runner takes for a pixel of a model: nothing that is scaled from what was measured takes less."""

from dataclasses import dataclass, field

NOTHING = (0.0, 0.0)


@dataclass(slots=True)
class LeastTimes:
    """Of one model. The least is found again only when the runner that had it has become slower."""

    _by_runner: dict[str, tuple[float, ...]] = field(default_factory=dict)
    _least: tuple[float, ...] | None = None

    def put(self, runner_id: str, seconds_a_pixel: tuple[float, ...] | None) -> None:
        """The least of a runner: of a step, and beside the steps; None: it has measured nothing any more."""
        before = self._by_runner.pop(runner_id, None)
        if seconds_a_pixel is not None:
            self._by_runner[runner_id] = seconds_a_pixel
        if self._least is None:
            return
        if before is not None and any(was == least for was, least in zip(before, self._least, strict=True)):
            self._least = None
        elif seconds_a_pixel is not None:
            self._least = tuple(map(min, self._least, seconds_a_pixel))

    def step_seconds_of(self, runner_id: str) -> float:
        """Of a step on one runner; that of all, if it has measured nothing of the model."""
        own = self._by_runner.get(runner_id)
        return self.seconds_a_pixel[0] if own is None else own[0]

    @property
    def seconds_a_pixel(self) -> tuple[float, float]:
        """Of a step, and beside the steps; nothing where nothing was measured."""
        if self._least is None:
            self._least = tuple(map(min, zip(*self._by_runner.values(), strict=True))) if self._by_runner else NOTHING
        step_seconds, beside_seconds = self._least
        return step_seconds, beside_seconds
