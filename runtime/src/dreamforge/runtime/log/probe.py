"""Whether the log works, by using it: one message is stored and read back. A connection alone says little.

After a full disk nats-server keeps its connections, answers reads, and never again answers an append to the stream
that could not be written, until it is restarted. Its own health page names such a stream, so that is asked too.
"""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.log.streams import PROBES
from dreamforge.contracts.log.subjects import probe_of
from dreamforge.runtime import ids
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.bus import ApiError, Bus, ack
from dreamforge.runtime.log.monitoring import PROBE_BYTES, problem_of

STORE_SECONDS = 1.5  # below the limit of a readiness check, so that this reason is told and not a time-out

# A stream that is followed is heard every second; a follower that lost it tries again within seconds.
SILENT_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class LogProbe:
    """The readiness check of one service's log; `monitor_urls` of its servers (FORGE_NATS_MONITOR_URL), if known.

    `context`: whom to trust where these pages are behind TLS.
    """

    bus: Bus
    service: str
    monitor_urls: Sequence[str] = ()
    context: ssl.SSLContext | None = None

    async def check(self) -> None:
        """Store a message as durably as a fact and read it. Errors: DependencyAway with what did not work."""
        await self.bus.check()
        self._streams_are_heard()
        await asyncio.gather(self._store_and_read(), self._servers_own_word())

    def _streams_are_heard(self) -> None:
        for follower in self.bus.followers:
            if follower.silent_seconds > SILENT_SECONDS:
                reason = f"connected, but stream {follower.stream} was not heard for {follower.silent_seconds:.0f} s"
                raise DependencyAway(dependency="nats", reason=reason)

    async def _store_and_read(self) -> None:
        mark = ids.new_id().encode().ljust(PROBE_BYTES)
        try:
            async with asyncio.timeout(STORE_SECONDS):
                sequence = int(ack(await self.bus.ask(probe_of(self.service), mark))["seq"])
        except (ApiError, DependencyAway, TimeoutError) as error:
            reason = error.reason if isinstance(error, DependencyAway) else str(error) or "no answer"
            raise DependencyAway(dependency="nats", reason=f"connected, but it stores nothing: {reason}") from error
        found = await direct_get.one(self.bus, PROBES.name, sequence)
        if found is None or found.data != mark:
            raise DependencyAway(dependency="nats", reason="connected, but it does not give back what it has stored")

    async def _servers_own_word(self) -> None:
        """Of a cluster one healthy server is enough; servers that do not answer say nothing."""
        answers = await asyncio.gather(*(asyncio.to_thread(problem_of, url, self.context) for url in self.monitor_urls))
        problems = [problem for problem in answers if problem is not None]
        if problems and all(problems):
            raise DependencyAway(dependency="nats", reason=f"connected, but it is unhealthy: {problems[0]}")
