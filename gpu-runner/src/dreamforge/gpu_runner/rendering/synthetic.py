"""A renderer without a model and without torch, for benchmarks of everything around the render.

It draws a mirrored 8 x 8 mosaic from the hash of the recipe: an image that is the same for the same
request, different for any other, and plainly not a model's. Its recipe says `renderer: synthetic`.
It is never the default.
"""

import hashlib
import platform
import resource
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from importlib.metadata import version

from dreamforge.contracts.request.values import Geometry
from dreamforge.gpu_runner.machine.memory import system_memory
from dreamforge.gpu_runner.protocol.memory_rungs import HELD_RUNGS, Rung
from dreamforge.gpu_runner.protocol.recipe import Engine, recipe_for
from dreamforge.gpu_runner.protocol.render_task import RenderTask, TaskImage
from dreamforge.gpu_runner.rendering.png import FILTER_NONE
from dreamforge.gpu_runner.rendering.renderer import (
    DeviceReport,
    ModelKey,
    OnRunStep,
    OnStep,
    RenderedImage,
    RenderWarning,
)
from dreamforge.runtime import clock

CELLS = 8
NAME = "synthetic"


class SyntheticRenderer:
    """Fast and deterministic; `step_delay_seconds` makes it behave like a GPU of that speed."""

    def __init__(self, *, step_delay_seconds: float = 0.0) -> None:
        self._step_delay_seconds = step_delay_seconds
        # Waiting on an event that is never set sleeps without holding the interpreter lock.
        self._never = threading.Event()
        self._engine = Engine(
            renderer="synthetic",
            device="cpu",
            device_name=NAME,
            dtype="uint8",
            threads=1,
            versions={
                "dreamforge": version("dreamforge-gpu-runner"),
                "python": platform.python_version(),
            },
        )

    @property
    def engine(self) -> Engine:
        """What renders: no device at all."""
        return self._engine

    @property
    def instant(self) -> bool:
        """True unless a step delay was asked for."""
        return self._step_delay_seconds <= 0

    def device_report(self) -> DeviceReport:
        """The memory of this machine."""
        memory = system_memory()
        return DeviceReport(memory.total_bytes, memory.free_bytes, driver="", note="synthetic: no model is loaded")

    def is_resident(self, model: ModelKey) -> bool:  # noqa: ARG002 - any model will do
        """Always: there is nothing to load."""
        return True

    def load(self, model: ModelKey) -> tuple[int, tuple[str, ...]]:  # noqa: ARG002 - any model will do
        """Nothing to do."""
        return 0, ()

    def warnings(self, task: RenderTask) -> tuple[RenderWarning, ...]:  # noqa: ARG002 - any task will do
        """None: a mosaic shows nothing of its prompt."""
        return ()

    def rung_refusals(self, task: RenderTask) -> Mapping[Rung, str]:  # noqa: ARG002 - any task will do
        """All that changes how a model is held: there is none."""
        return dict.fromkeys(HELD_RUNGS, "there is no model")

    def render(self, task: RenderTask, seed: int, on_step: OnStep) -> RenderedImage:
        """The mosaic of one seed, after as many steps as asked."""
        for step in self._steps(task):
            on_step(step, task.request.steps)
        return self._mosaic(task, seed, None)

    def renders_together(self, task: RenderTask) -> bool:  # noqa: ARG002 - any task will do
        """Always, in the time of one."""
        return True

    def prompt_form(self, task: RenderTask) -> Hashable:  # noqa: ARG002 - any task will do
        """Nothing: any prompts go together."""
        return None

    def render_together(self, images: Sequence[TaskImage], on_step: OnRunStep) -> Sequence[RenderedImage | None]:
        """The mosaics of several, after as many steps as one takes."""
        for step in self._steps(images[0].task):
            on_step(step, images[0].task.request.steps, {})
        return [
            self._mosaic(image.task, image.seed, Geometry(size=len(images), place=place))
            for place, image in enumerate(images)
        ]

    def _steps(self, task: RenderTask) -> Iterator[int]:
        for step in range(1, task.request.steps + 1):
            if self._step_delay_seconds > 0:
                self._never.wait(self._step_delay_seconds)
            yield step

    def _mosaic(self, task: RenderTask, seed: int, geometry: Geometry | None) -> RenderedImage:
        sampler = task.request.sampler or NAME
        recipe = recipe_for(task, seed, self._engine, pipeline=NAME, sampler=sampler, geometry=geometry)
        digest = hashlib.sha256(recipe.model_dump_json().encode()).digest()
        width_px, height_px = task.output_px
        rows = mosaic_scanlines(digest, width_px=width_px, height_px=height_px)
        if task.request.frames is None:
            return RenderedImage(rows, recipe)
        return RenderedImage(_unfiltered(rows, width_px) * task.request.frames, recipe)

    def encode_ahead(self, task: RenderTask) -> None:
        """Nothing: it reads no text."""

    def work_seconds(self) -> float:
        """The time: a delay is no work of any device."""
        return clock.monotonic_seconds()

    def start_peak(self) -> None:
        """Nothing: it has no device."""

    def run_peak_bytes(self, task: RenderTask) -> int | None:  # noqa: ARG002 - any task will do
        """Not measured."""
        return None

    def peak_bytes(self) -> int:
        """Peak of the process; ru_maxrss is in KiB on Linux."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def mosaic_scanlines(digest: bytes, *, width_px: int, height_px: int) -> bytes:
    """Rows of a left-right mirrored mosaic: 6 bytes of the digest give two colours, 32 bits the cells.

    Shapes: height_px rows of 1 + 3 * width_px bytes, as `png.encode_png` wants them.
    """
    colours = digest[0:3], digest[3:6]
    bits = int.from_bytes(digest[6:10], "big")
    rows = []
    for cell_row in range(CELLS):
        half = [(bits >> (cell_row * CELLS // 2 + column)) & 1 for column in range(CELLS // 2)]
        cells = half + half[::-1]
        row = b"".join(
            colours[bit] * (_edge(column + 1, width_px) - _edge(column, width_px)) for column, bit in enumerate(cells)
        )
        rows.append((bytes((FILTER_NONE,)) + row) * (_edge(cell_row + 1, height_px) - _edge(cell_row, height_px)))
    return b"".join(rows)


def _unfiltered(rows: bytes, width_px: int) -> bytes:
    """Rows without the byte before each."""
    row_bytes = 1 + 3 * width_px
    return b"".join(rows[at + 1 : at + row_bytes] for at in range(0, len(rows), row_bytes))


def _edge(cell: int, size_px: int) -> int:
    return cell * size_px // CELLS
