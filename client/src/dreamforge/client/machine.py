"""The one place of the client that reads a clock and makes chance: deadlines, idempotency keys, pauses of retries."""

import math
import random
import time
import uuid
from dataclasses import dataclass
from typing import Self


def new_key() -> str:
    """An idempotency key: 122 random bits."""
    return str(uuid.uuid4())


def jitter(seconds: float) -> float:
    """Between half and all of a pause, so that clients do not retry in step."""
    return seconds * (0.5 + random.random() / 2)


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of the clock that never goes back, in seconds; `math.inf` is none."""

    at: float = math.inf

    @classmethod
    def after(cls, seconds: float | None) -> Self:
        """So many seconds from now; None: never."""
        return cls() if seconds is None else cls(time.monotonic() + seconds)

    def left_seconds(self) -> float:
        """Until it is reached; 0 afterwards."""
        return max(0.0, self.at - time.monotonic())
