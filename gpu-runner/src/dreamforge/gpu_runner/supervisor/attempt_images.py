"""The finished images of one attempt: signed, stored, and measured."""

from dataclasses import dataclass, field
from datetime import datetime

from dreamforge.contracts.events import ArtifactStored
from dreamforge.gpu_runner import metrics
from dreamforge.gpu_runner.protocol.messages import Image
from dreamforge.gpu_runner.supervisor.artifact_uploader import ArtifactUploader
from dreamforge.gpu_runner.supervisor.assignment import ReceivedAssignment
from dreamforge.gpu_runner.supervisor.attempt_spans import AttemptSpans
from dreamforge.gpu_runner.supervisor.attempt_times import AttemptTimes
from dreamforge.gpu_runner.supervisor.picture_signing import SignPicture
from dreamforge.runtime import clock
from dreamforge.runtime.service import tracing
from dreamforge.runtime.service.spans import SpanAttributes


@dataclass(slots=True)
class AttemptImages:
    """Takes each image as it comes from the child."""

    assignment: ReceivedAssignment
    sign: SignPicture
    uploads: ArtifactUploader
    times: AttemptTimes
    spans: AttemptSpans
    #: When the job was requested, by the clock of the log; None where this attempt has not read that.
    requested_at: datetime | None
    #: When the attempt began, by the monotonic clock.
    _began: float = field(default_factory=clock.monotonic_seconds)
    _has_stored: bool = False

    async def store(self, image: Image, seed: int) -> ArtifactStored:
        """Store one, for as long as it takes; what to record of it."""
        steps_seconds, began = self.times.steps_seconds, clock.monotonic_seconds()
        self.spans.image(image)
        metrics.RENDER_SECONDS.observe(image.timings.render_seconds, tracing.exemplar())
        stored = await self._store(image, seed)
        self.times.image(image.timings, steps_seconds, clock.monotonic_seconds() - began)
        if not self._has_stored:
            self._has_stored = True
            self._measure_first()
        return stored

    async def _store(self, image: Image, seed: int) -> ArtifactStored:
        recipe = image.recipe.model_dump(mode="json")
        signed = await self.sign(image, self.assignment.job_id, recipe)
        attributes: SpanAttributes = {
            "rpc.system": "aws-api",
            "rpc.method": "PutObject",
            "dreamforge.image.index": image.image_index,
            "dreamforge.image.bytes": len(signed.body),
        }
        with tracing.span("upload image", kind="client", attributes=attributes):
            await self.uploads.store(signed.sha256, signed.body, image.content_type)
        return ArtifactStored(
            at=clock.now(),
            attempt=self.assignment.event.attempt,
            index=image.image_index,
            sha256=signed.sha256,
            size_bytes=len(signed.body),
            content_type=image.content_type,
            width_px=image.width_px,
            height_px=image.height_px,
            seed=seed,
            recipe=recipe,
        )

    def _measure_first(self) -> None:
        metrics.START_TO_PICTURE_SECONDS.observe(clock.monotonic_seconds() - self._began, tracing.exemplar())
        if self.requested_at is not None:
            waited_seconds = (clock.now() - self.requested_at).total_seconds()
            metrics.REQUEST_TO_PICTURE_SECONDS.observe(max(0.0, waited_seconds), tracing.exemplar())
