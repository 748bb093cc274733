"""A consumer that has nothing to do keeps its subscription."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from nats.errors import TimeoutError as NatsTimeout

from dreamforge.projector.consumers import consume
from dreamforge.runtime.log.bus import Bus


class QuietSubscription:
    """Nothing comes: once by nats-py's timeout, once by asyncio's, which it raises between its two requests."""

    def __init__(self) -> None:
        self.fetches = asyncio.Queue[None]()
        self._timeouts = iter([NatsTimeout(), TimeoutError()])

    async def fetch(self, batch: int, timeout: float) -> list[Any]:
        self.fetches.put_nowait(None)
        for error in self._timeouts:
            raise error
        await asyncio.Event().wait()
        return []

    async def unsubscribe(self) -> None:
        return None


async def test_a_fetch_that_brings_nothing_is_repeated_on_the_same_subscription() -> None:
    subscription, made = QuietSubscription(), list[str]()

    async def request(subject: str, body: object) -> None:
        made.append(subject)

    async def bind(consumer: str, stream: str) -> QuietSubscription:
        return subscription

    async def unused(*_: object) -> None:
        raise AssertionError

    bus = SimpleNamespace(request=request, js=SimpleNamespace(pull_subscribe_bind=bind), connected=True)
    task = asyncio.create_task(consume(cast(Bus, bus), "ADVISORIES", "given-up", unused, unused))
    try:
        for _ in range(3):
            await asyncio.wait_for(subscription.fetches.get(), 5)
        assert len(made) == 1
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
