"""Images that the prompt is an instruction about. Import this only in the child."""

from dreamforge.contracts.events import FailureReason, WarningCode
from dreamforge.gpu_runner.protocol.render_task import RenderTask
from dreamforge.gpu_runner.rendering.hooks import ForAll, Keywords, RenderFeature
from dreamforge.gpu_runner.rendering.passes import PassContext, first_pass
from dreamforge.gpu_runner.rendering.pipeline import Pipeline
from dreamforge.gpu_runner.rendering.reference_images import references_of
from dreamforge.gpu_runner.rendering.renderer import RenderFailed, RenderWarning
from dreamforge.gpu_runner.rendering.text_encoders import call_parameters


class References(RenderFeature):
    """`references` of a request."""

    def warnings(self, pipeline: Pipeline, task: RenderTask) -> tuple[RenderWarning, ...]:  # noqa: ARG002
        """What was converted in the files."""
        read = references_of(task, first_pass(task).size_px)
        noted = (f"reference {number}: {', '.join(each.notes)}" for number, each in enumerate(read, 1) if each.notes)
        text = "; ".join(noted)
        return (RenderWarning(WarningCode.INPUT_CONVERTED, text),) if text else ()

    def check(self, pipeline: Pipeline, task: RenderTask) -> None:
        """Errors: RenderFailed(invalid_request) where this pipeline reads no image beside its prompt."""
        if task.request.references and "image" not in call_parameters(pipeline):
            message = f"{type(pipeline).__name__} takes no reference images"
            raise RenderFailed(FailureReason.INVALID_REQUEST, message)

    def arguments(self, context: PassContext, pipeline: Pipeline) -> Keywords:  # noqa: ARG002
        """One image as it is, several as a list: a pipeline that takes one alone takes a list for a batch.

        Each image of a run has all of them, encoded once: what one is encoded to is the mean, without noise.
        """
        images = [each.image for each in references_of(context.task, context.current.size_px)]
        if not images:
            return {}
        return {"image": ForAll(lambda: images[0] if len(images) == 1 else images)}
