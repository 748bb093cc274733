"""Attempts that no longer count for the slots of their runner: the device is done with them, or nearly.

Uploads and appends of one attempt go on while the next one renders. Both kinds of room are bounded here.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dreamforge.contracts.fleet import ActiveAttempt

#: With less than this left of its steps an attempt makes room for the next one, which then waits in the child. What has
#: to happen meanwhile was measured at 10 to 20 ms, after up to 100 ms until the next heartbeat.
AHEAD_SECONDS = 0.3
#: An image (a video, most of all) that takes longer than this beside its steps is not nearly over at its last step.
BESIDE_SECONDS_MAX = 2.0
#: Finished images that may wait for the object store, before a runner takes no more.
WAITING_BYTES = 256 * 2**20


def is_nearly_over(steps_seconds: float, beside_seconds: float) -> bool:
    """Whether an attempt is, with so long to go of its steps and so long beside them (decoding, encoding, storing).

    >>> is_nearly_over(0.2, 0.1), is_nearly_over(0.2, 30.0), is_nearly_over(1.0, 0.1)
    (True, False, False)
    """
    return steps_seconds <= AHEAD_SECONDS and beside_seconds <= BESIDE_SECONDS_MAX


@dataclass(slots=True)
class EndingAttempts:
    """At most `attempts_max` of them. `on_change` is called when one more no longer counts."""

    attempts_max: int
    on_change: Callable[[], None] = lambda: None
    _members: dict[str, ActiveAttempt] = field(default_factory=dict)
    _waiting_bytes: int = 0

    @property
    def members(self) -> tuple[ActiveAttempt, ...]:
        """For the heartbeat."""
        return tuple(self._members.values())

    def add(self, task_id: str, attempt: ActiveAttempt) -> bool:
        """Have an attempt no longer count; False if it still has to, because too much waits already."""
        if task_id not in self._members:
            if len(self._members) >= self.attempts_max or self._waiting_bytes > WAITING_BYTES:
                return False
            self._members[task_id] = attempt
            self.on_change()
        return True

    def remove(self, task_id: str) -> None:
        """An attempt is over."""
        self._members.pop(task_id, None)

    def hold(self, upload: "asyncio.Future[Any]", size_bytes: int) -> None:  # Any: what it gives does not matter
        """Count the bytes of an image until its upload is over."""
        self._waiting_bytes += size_bytes
        upload.add_done_callback(lambda _: self._release(size_bytes))

    def _release(self, size_bytes: int) -> None:
        self._waiting_bytes -= size_bytes
