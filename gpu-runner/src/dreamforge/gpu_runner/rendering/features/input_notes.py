"""Says what was done to the images that a request names before a render used them. Import this only in the child."""

from dreamforge.contracts.events import WarningCode
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import RenderFeature
from dreamforge.gpu_runner.rendering.passes import first_pass
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.prepared_inputs import notes_of
from dreamforge.gpu_runner.rendering.renderer import RenderWarning


class InputNotes(RenderFeature):
    """One warning a task: a job has at most one of a code."""

    def warnings(self, pipeline: Pipeline, task: RenderTask) -> tuple[RenderWarning, ...]:  # noqa: ARG002
        """What was converted, cropped or stretched. Errors: RenderFailed(invalid_request) if a file is no image."""
        text = "; ".join(notes_of(task, first_pass(task).size_px))
        return (RenderWarning(WarningCode.INPUT_CONVERTED, text),) if text else ()
