"""Records in the log, beside the render, what the child warns of and which images are finished."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from loguru import logger

from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.events import ArtifactStored, JobWarned
from dreamforge.contracts.jobs import decisions
from dreamforge.gpu_runner.protocol.messages import Warned
from dreamforge.runtime import clock
from dreamforge.runtime.log.event_store import JobOutcome, LoadedJob

Execute = Callable[[decisions.Command, LoadedJob | None], Awaitable[JobOutcome]]
#: A prompt can be thousands of words long; a reader needs the first of them.
MAX_WORDS = 100
MAX_WORD_CHARS = 100


@dataclass(slots=True)
class AttemptRecorder:
    """The events of one attempt between its start and its end, one append after the other.

    What arrives during an append is appended together after it, warnings first. The last of `images` images is left to
    the append of the finish, together with those that wait with it: a job of one image costs one append, as before.
    An append that the log refuses fails nothing here: the job took another course, and the attempt's next append
    finds it out.
    """

    attempt: int
    execute: Execute
    #: The job as we know it, for the append that comes next; None: it has to be read.
    known: LoadedJob | None
    #: How many images this attempt renders.
    images: int
    _warnings: list[JobWarned] = field(default_factory=list)
    _artifacts: list[ArtifactStored] = field(default_factory=list)
    _images_to_come: int = field(init=False)
    _appending: "asyncio.Task[None] | None" = None

    def __post_init__(self) -> None:
        self._images_to_come = self.images

    async def warn(self, warned: Warned) -> None:
        """Append a warning in the background."""
        self._warnings.append(event_of(warned, self.attempt))
        self._begin()

    def store(self, artifact: ArtifactStored) -> None:
        """Append an image that is in the object store, in the background; the last one waits for the finish."""
        self._artifacts.append(artifact)
        self._images_to_come -= 1
        if self._images_to_come:
            self._begin()

    @property
    def waiting(self) -> tuple[ArtifactStored, ...]:
        """The images that are left to the finish."""
        return tuple(self._artifacts)

    async def recorded(self) -> LoadedJob | None:
        """The job after every append so far; None if it has to be read again. A caller that is cancelled stops none."""
        if self._appending is not None:
            await asyncio.wait({self._appending})
            self._appending.result()
        return self.known

    async def record_all(self) -> None:
        """Append the images that wait for a finish, too: there will be none."""
        await self.recorded()
        if self._artifacts:
            self._images_to_come = max(1, self._images_to_come)
            self._begin()
            await self.recorded()

    def forget(self) -> None:
        """Give up what is still waiting for the log."""
        if self._appending is not None:
            self._appending.cancel()

    def _begin(self) -> None:
        if self._appending is None or self._appending.done():
            self._appending = asyncio.create_task(self._append())

    async def _append(self) -> None:
        while (command := self._next()) is not None:
            known, self.known = self.known, None
            try:
                outcome = await self.execute(command, known)
            except ForgeError as error:
                logger.info("the log refused what an attempt had to say: {}", error)
            else:
                self.known = LoadedJob(outcome.state, outcome.version)

    def _next(self) -> decisions.Command | None:
        if self._warnings:
            warnings, self._warnings = tuple(self._warnings), []
            return decisions.WarnAttempt(clock.now(), self.attempt, warnings)
        if self._artifacts and self._images_to_come:
            artifacts, self._artifacts = tuple(self._artifacts), []
            return decisions.StoreImages(clock.now(), self.attempt, artifacts)
        return None


def event_of(warned: Warned, attempt: int) -> JobWarned:
    """The event of one warning."""
    return JobWarned(
        at=clock.now(),
        attempt=attempt,
        code=warned.code,
        message=warned.message,
        image_index=warned.image_index,
        words=tuple(word[:MAX_WORD_CHARS] for word in warned.words[:MAX_WORDS]),
    )
