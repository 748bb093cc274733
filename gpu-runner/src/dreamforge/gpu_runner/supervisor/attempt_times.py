"""What the steps and the images of one attempt say of the speed of this runner. Pure."""

from dataclasses import dataclass

from dreamforge.contracts.placement import needs_of
from dreamforge.contracts.request.render_request import RenderRequest
from dreamforge.gpu_runner.protocol.messages import StepDone, Timings
from dreamforge.gpu_runner.supervisor.run_times import RunTimes


@dataclass(slots=True)
class AttemptTimes:
    """One attempt. What is rendered with copies of itself (a geometry) is no measure of other renders."""

    times: RunTimes
    request: RenderRequest
    #: When the first step of the present run was over; None if the child did not say.
    _first_seconds: float | None = None
    #: What the steps of the last run took an image.
    steps_seconds: float = 0.0

    def step(self, step: StepDone) -> None:
        """A step is over. The first of a run has text encoding in it, so it counts as the mean of the others."""
        if step.step == 1:
            self._first_seconds = step.elapsed_seconds
        if step.step < step.steps or self.request.geometry is not None:
            return
        first, self._first_seconds = self._first_seconds, None
        one = step.elapsed_seconds / step.steps
        if first is not None and step.steps > 1:
            one = (step.elapsed_seconds - first) / (step.steps - 1)
        self.steps_seconds = one * step.steps / step.run_size
        self.times.stepped(self._shape, step.run_size, self.steps_seconds / self.request.steps_at_full_size)

    def image(self, timings: Timings, steps_seconds: float, stored_seconds: float) -> None:
        """An image is stored. `steps_seconds` as they were when it came; `stored_seconds`: its signature and upload."""
        if self.request.geometry is None:
            after = timings.encode_seconds + stored_seconds
            self.times.finished(self._shape, timings.render_seconds - steps_seconds, after)

    @property
    def beside_seconds(self) -> float:
        """What an image takes beside its steps, as far as this runner knows."""
        return self.times.beside_seconds(self._shape)

    @property
    def _shape(self) -> str:
        return needs_of(self.request).batch_shape
