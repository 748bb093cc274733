"""One renderer for all models that a job can name: pipelines, and upscalers. Import this only in the child."""

from collections.abc import Hashable, Mapping, Sequence

from dreamforge.gpu_runner.protocol.memory_rungs import Rung
from dreamforge.gpu_runner.protocol.recipe import Engine
from dreamforge.gpu_runner.protocol.render_task import RenderTask, TaskImage
from dreamforge.gpu_runner.rendering.diffusers_renderer import DiffusersRenderer
from dreamforge.gpu_runner.rendering.renderer import (
    DeviceReport,
    ModelKey,
    OnRunStep,
    OnStep,
    RenderedImage,
    RenderWarning,
)
from dreamforge.gpu_runner.rendering.upscale_renderer import UpscaleRenderer
from dreamforge.runtime.storage.model_inspection import lone_file


class RendererByModel:
    """Which renderer a model is for, its files say: an upscaler is one file without a configuration."""

    def __init__(self, pipelines: DiffusersRenderer) -> None:
        self._pipelines = pipelines
        self._upscalers = UpscaleRenderer(pipelines.device, pipelines.engine)

    @property
    def engine(self) -> Engine:
        """What renders."""
        return self._pipelines.engine

    @property
    def instant(self) -> bool:
        """Never: these steps are worth watching."""
        return False

    def device_report(self) -> DeviceReport:
        """The device's memory, now."""
        return self._pipelines.device_report()

    def is_resident(self, model: ModelKey) -> bool:
        """Whether the model is in memory."""
        return self._renderer_of(model).is_resident(model)

    def load(self, model: ModelKey) -> tuple[int, tuple[str, ...]]:
        """Make a model resident. Errors: RenderFailed."""
        return self._renderer_of(model).load(model)

    def warnings(self, task: RenderTask) -> tuple[RenderWarning, ...]:
        """What the owner of a task should know. Errors: RenderFailed."""
        return self._renderer_of(ModelKey.of_task(task)).warnings(task)

    def rung_refusals(self, task: RenderTask) -> Mapping[Rung, str]:
        """What cannot be done to render this task in less memory."""
        return self._renderer_of(ModelKey.of_task(task)).rung_refusals(task)

    def render(self, task: RenderTask, seed: int, on_step: OnStep) -> RenderedImage:
        """One image, alone. Errors: RenderFailed."""
        return self._renderer_of(ModelKey.of_task(task)).render(task, seed, on_step)

    def renders_together(self, task: RenderTask) -> bool:
        """Whether images of this task can be in one run with others: never those of an upscaler."""
        renderer = self._renderer_of(ModelKey.of_task(task))
        return renderer is self._pipelines and self._pipelines.renders_together(task)

    def prompt_form(self, task: RenderTask) -> Hashable:
        """What the prompts of one run of a pipeline have in common."""
        return self._pipelines.prompt_form(task)

    def render_together(self, images: Sequence[TaskImage], on_step: OnRunStep) -> Sequence[RenderedImage | None]:
        """Several images of a pipeline in one run. Errors: RenderFailed."""
        return self._pipelines.render_together(images, on_step)

    def encode_ahead(self, task: RenderTask) -> None:
        """A task that comes next: upscalers read no text."""
        if self._renderer_of(ModelKey.of_task(task)) is self._pipelines:
            self._pipelines.encode_ahead(task)

    def work_seconds(self) -> float:
        """A clock of what the device has worked."""
        return self._pipelines.work_seconds()

    def start_peak(self) -> None:
        """The next run begins."""
        self._pipelines.start_peak()

    def run_peak_bytes(self, task: RenderTask) -> int | None:
        """Peak of the last run, if it was of a pipeline: upscalers work in parts, as many as there is room for."""
        renderer = self._renderer_of(ModelKey.of_task(task))
        return self._pipelines.run_peak_bytes(task) if renderer is self._pipelines else None

    def peak_bytes(self) -> int:
        """Peak memory of the device."""
        return self._pipelines.peak_bytes()

    def _renderer_of(self, model: ModelKey) -> DiffusersRenderer | UpscaleRenderer:
        return self._pipelines if lone_file(model.path) is None else self._upscalers
