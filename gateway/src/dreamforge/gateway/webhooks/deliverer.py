"""Delivers to webhooks while this gateway is the one of them that does."""

import asyncio
from collections.abc import Callable

from loguru import logger

from dreamforge.contracts.errors import ForgeError
from dreamforge.contracts.log.streams import WEBHOOK_LEADER
from dreamforge.gateway.webhooks.session import DeliverySession
from dreamforge.runtime.log.bus import NATS_ERRORS, ApiError, Bus
from dreamforge.runtime.log.leadership import Leadership
from dreamforge.runtime.service import retry
from dreamforge.runtime.service.tasks import TaskGroup, run_until_first


class Deliverer:
    """Holds the key of the delivering gateway, and runs a session for as long as it has it."""

    def __init__(self, bus: Bus, instance_id: str, session: Callable[[], DeliverySession]) -> None:
        self._leadership = Leadership(bus, WEBHOOK_LEADER, instance_id, self._leads_now)
        self._session = session
        self._leading, self._deposed = asyncio.Event(), asyncio.Event()

    async def run(self) -> None:
        """Run until cancelled; then another gateway takes over at once."""
        async with TaskGroup() as group:
            group.create_task(self._leadership.run())
            group.create_task(self._deliver())

    def _leads_now(self, leads: bool) -> None:
        logger.info("this gateway {} to webhooks", "delivers" if leads else "no longer delivers")
        began, ended = (self._leading, self._deposed) if leads else (self._deposed, self._leading)
        ended.clear()
        began.set()

    async def _deliver(self) -> None:
        async for _ in retry.backoff("webhooks"):
            await self._leading.wait()
            try:
                await run_until_first(self._session().run(), self._until_deposed())
            except (ForgeError, ApiError, *NATS_ERRORS, ExceptionGroup) as error:
                logger.warning("deliveries to webhooks begin again: {}", error)

    async def _until_deposed(self) -> None:
        await self._deposed.wait()
