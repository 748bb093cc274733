"""Watches both servers of the database, and does what `failover_rule` says.

Stands for what CloudNativePG or Patroni do in an installation. Fencing is out of band, as by a power switch.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg
from bench.fleet.failover_rule import PairView, Step, next_step
from bench.fleet.postgres_pair import PostgresPair

LOOK_SECONDS = 0.5


@dataclass
class FailoverManager:
    """Watches the pair until cancelled. `is_faulty` says whether a host is not repaired yet."""

    pair: PostgresPair
    is_faulty: Callable[[str], bool]
    problems: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Look, decide, act."""
        heard = followed = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            primary, standby, follows = await asyncio.gather(
                self.pair.answers(self.pair.primary), self.pair.answers(self.pair.standby), self.pair.replicates()
            )
            now = time.monotonic()
            heard, followed = (now if primary else heard), (now if follows else followed)
            faulty = self.is_faulty(self.pair.standby)
            step = next_step(PairView(now - heard, standby, now - followed, faulty))
            if step is not Step.NOTHING:
                await self._do(step)
                heard = followed = time.monotonic()

    async def _do(self, step: Step) -> None:
        try:
            await (self.pair.fail_over() if step is Step.FAIL_OVER else self.pair.rebuild_standby())
        except (psycopg.Error, OSError, RuntimeError, TimeoutError) as error:
            self.problems.append(f"{step.value}: {str(error).strip()[-300:]}")
