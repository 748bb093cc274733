"""Which failed request is sent again, and after how long. Pure but for the jitter."""

from dataclasses import dataclass

import httpx

from dreamforge.client.errors import retry_after_seconds
from dreamforge.client.machine import jitter

BUSY = frozenset({502, 503, 504})
# Nothing was sent: a repeat cannot do anything twice.
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a request is tried, and how long the pauses between are; each is twice the one before.

    The defaults reach over 10 s: a restart of a gateway takes about 2 s, on a busy machine 5 s.
    """

    tries: int = 8
    first_pause_seconds: float = 0.2
    last_pause_seconds: float = 5.0
    limit_wait_seconds: float = 30.0
    """The longest Retry-After of a used up limit (429) that is waited for; 0: such a refusal is raised at once."""

    def pause_seconds(
        self, failure: httpx.TransportError | httpx.Response, failures: int, *, repeatable: bool
    ) -> float | None:
        """The pause after so many failures in a row; None: no further try.

        `repeatable`: the request does the same once or several times, so it may be sent again although an earlier one
        was perhaps received.
        """
        if failures >= self.tries:
            return None
        backoff = jitter(min(self.last_pause_seconds, self.first_pause_seconds * 2.0 ** (failures - 1)))
        if isinstance(failure, httpx.TransportError):
            return backoff if repeatable or isinstance(failure, NEVER_SENT) else None
        asked = retry_after_seconds(failure)
        if failure.status_code == httpx.codes.TOO_MANY_REQUESTS:
            return max(backoff, asked) if asked is not None and asked <= self.limit_wait_seconds else None
        if failure.status_code in BUSY and repeatable:
            return max(backoff, min(asked or 0.0, self.last_pause_seconds))
        return None
