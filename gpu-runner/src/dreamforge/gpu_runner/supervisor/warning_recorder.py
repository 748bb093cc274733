"""Records the child's warnings in the log, beside the render: a warning neither delays an attempt nor fails it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from loguru import logger

from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.events import JobWarned
from dreamforge.contracts.jobs import decisions
from dreamforge.gpu_runner.protocol.messages import Warned
from dreamforge.runtime import clock
from dreamforge.runtime.log.event_store import JobOutcome, LoadedJob

Execute = Callable[[decisions.Command, LoadedJob | None], Awaitable[JobOutcome]]
#: A prompt can be thousands of words long; a reader needs the first of them.
MAX_WORDS = 100
MAX_WORD_CHARS = 100


@dataclass(slots=True)
class WarningRecorder:
    """The warnings of one attempt, appended one after the other; those that arrive meanwhile are appended together."""

    attempt: int
    execute: Execute
    #: The job as we know it, for the append that comes next; None: it has to be read.
    known: LoadedJob | None
    _waiting: list[JobWarned] = field(default_factory=list)
    _appending: "asyncio.Task[None] | None" = None

    async def warn(self, warned: Warned) -> None:
        """Append it in the background."""
        self._waiting.append(event_of(warned, self.attempt))
        if self._appending is None or self._appending.done():
            self._appending = asyncio.create_task(self._append())

    async def recorded(self) -> LoadedJob | None:
        """The job after every warning so far; None if it has to be read again."""
        if self._appending is not None:
            await self._appending
        return self.known

    def forget(self) -> None:
        """Give up what is still waiting for the log."""
        if self._appending is not None:
            self._appending.cancel()

    async def _append(self) -> None:
        while self._waiting:
            warnings, self._waiting = tuple(self._waiting), []
            known, self.known = self.known, None
            try:
                outcome = await self.execute(decisions.WarnAttempt(clock.now(), self.attempt, warnings), known)
            except ForgeError as error:  # the job took another course, which the next append of this attempt will find
                logger.info("a warning was refused by the log: {}", error)
            else:
                self.known = LoadedJob(outcome.state, outcome.version)


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
