"""From the child's steps to what a client sees: position, elapsed and remaining time. Pure."""

from dataclasses import dataclass
from datetime import datetime

from dreamforge.contracts.events import StepProgressed
from dreamforge.gpu_runner.protocol.messages import StepDone


@dataclass(slots=True)
class ProgressEstimate:
    """One attempt's progress through the images that it renders: those of `images` that are not stored yet."""

    attempt: int
    images: int
    to_render: tuple[int, ...]
    _earlier_images_seconds: float = 0.0
    _this_image_seconds: float = 0.0
    _image_index: int | None = None

    def event(self, step: StepDone, at: datetime) -> StepProgressed:
        """The event of one step. The time to go assumes that steps go on at the mean pace so far."""
        if step.image_index != self._image_index:
            self._earlier_images_seconds += self._this_image_seconds
            self._image_index = step.image_index
        self._this_image_seconds = step.elapsed_seconds
        elapsed_seconds = self._earlier_images_seconds + step.elapsed_seconds
        done = self.to_render.index(step.image_index) * step.steps + step.step * step.together
        left = max(0, len(self.to_render) * step.steps - done)
        return StepProgressed(
            at=at,
            attempt=self.attempt,
            image_index=step.image_index,
            images=self.images,
            step=step.step,
            steps=step.steps,
            elapsed_seconds=elapsed_seconds,
            eta_seconds=elapsed_seconds / done * left if done else 0.0,
            preview=step.preview,
            together=step.together,
        )

    def loading(self, model_id: str, steps: int, at: datetime) -> StepProgressed:
        """The event of a model that has to be read first: no step is done, and how long it takes is not known."""
        return StepProgressed(
            at=at,
            attempt=self.attempt,
            image_index=self.to_render[0],
            images=self.images,
            step=0,
            steps=steps,
            elapsed_seconds=0.0,
            eta_seconds=0.0,
            loading=model_id,
        )
