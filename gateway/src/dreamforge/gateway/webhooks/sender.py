"""One request to a receiver, with every way in which it may fail as a value."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dreamforge.runtime import clock
from dreamforge.runtime.http.outgoing_rule import OutgoingRule
from dreamforge.runtime.network import AddressRefused

if TYPE_CHECKING:
    import httpx

REASON_CHARS_MAX = 300
# 410 says: never again. Standard Webhooks asks to stop there.
GONE = 410


@dataclass(frozen=True, slots=True)
class SendOutcome:
    """What came of an attempt. `status` 0: no answer. `retry_after_seconds`: what the receiver asked for."""

    status: int
    reason: str
    elapsed_seconds: float
    retry_after_seconds: float = 0.0

    @property
    def succeeded(self) -> bool:
        """Whether the receiver has it."""
        return 200 <= self.status < 300

    @property
    def final(self) -> bool:
        """Whether the receiver asks never to be sent it again."""
        return self.status == GONE


class Sender:
    """Sends to what the rule allows. It follows no redirect, and reads nothing of an answer but its head.

    What it sends with is imported with the first delivery: that is 0.1 s of a start, and few gateways deliver.
    """

    def __init__(self, rule: OutgoingRule, timeout_seconds: float) -> None:
        self._rule, self._timeout_seconds = rule, timeout_seconds
        self._opened: httpx.AsyncClient | None = None

    async def send(self, url: str, headers: dict[str, str], body: bytes) -> SendOutcome:
        """One attempt."""
        import httpx

        began = clock.monotonic_seconds()
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._client.stream("POST", url, headers=headers, content=body) as answer,
            ):
                status, wait = answer.status_code, answer.headers.get("retry-after", "")
        except AddressRefused as error:
            return SendOutcome(0, str(error)[:REASON_CHARS_MAX], clock.monotonic_seconds() - began)
        except TimeoutError:
            return SendOutcome(0, f"no answer within {self._timeout_seconds:g} s", clock.monotonic_seconds() - began)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return SendOutcome(0, reason[:REASON_CHARS_MAX], clock.monotonic_seconds() - began)
        retry_after = float(wait) if wait.isdecimal() and len(wait) < 8 else 0.0
        return SendOutcome(status, f"the receiver answered {status}", clock.monotonic_seconds() - began, retry_after)

    async def close(self) -> None:
        """Close every connection."""
        if self._opened is not None:
            await self._opened.aclose()

    @property
    def _client(self) -> "httpx.AsyncClient":
        if self._opened is None:
            import httpx

            from dreamforge.runtime.http.outgoing import OutgoingTransport

            transport = OutgoingTransport(self._rule)
            self._opened = httpx.AsyncClient(transport=transport, timeout=self._timeout_seconds, follow_redirects=False)
        return self._opened
