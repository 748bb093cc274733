"""Durable consumers of the projector: one parks undeliverable messages, one retries parked messages on request.

Unlike a fold, each message is handled by any one projector and acknowledged when that is done; the server keeps their
position.
"""

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress

import psycopg
from loguru import logger
from nats.aio.msg import Msg
from nats.errors import TimeoutError as NatsTimeout

from dreamforge.contracts.errors import DependencyAway
from dreamforge.contracts.events import MessageParked, ParkedSettled
from dreamforge.contracts.log import streams
from dreamforge.contracts.log.envelope import unseal, unseal_or_none
from dreamforge.contracts.log.subjects import entity_of
from dreamforge.projector.parking import Park
from dreamforge.projector.projector import Projector
from dreamforge.runtime.log import direct_get
from dreamforge.runtime.log.bus import NATS_ERRORS, ApiError, Bus
from dreamforge.runtime.log.message import LogMessage
from dreamforge.runtime.service import retry

Handler = Callable[[Msg], Awaitable[None]]
NANOSECONDS = 1_000_000_000
ACK_SECONDS = 30
REDELIVERY_SECONDS = 1.0
FETCH_MESSAGES, FETCH_SECONDS = 50, 5.0


async def consume(bus: Bus, stream: str, durable: str, handle: Handler) -> None:
    """Handle each message of a stream once, until cancelled; after a failure it is delivered again a second later."""
    while True:
        async for attempt in retry.backoff():
            try:
                await _consume(bus, stream, durable, handle)
            except (DependencyAway, ApiError, *NATS_ERRORS) as error:
                if attempt > 1:
                    logger.warning("not consuming {}: {}", stream, str(error) or type(error).__name__)


async def _consume(bus: Bus, stream: str, durable: str, handle: Handler) -> None:
    config = {"durable_name": durable, "ack_policy": "explicit", "ack_wait": ACK_SECONDS * NANOSECONDS}
    request = {"stream_name": stream, "config": config, "action": ""}
    await bus.request(f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{durable}", request)
    subscription = await bus.js.pull_subscribe_bind(consumer=durable, stream=stream)
    try:
        while True:
            with suppress(NatsTimeout):
                for message in await subscription.fetch(FETCH_MESSAGES, timeout=FETCH_SECONDS):
                    await _handled(message, handle)
    finally:
        if bus.connected:
            await subscription.unsubscribe()


async def _handled(message: Msg, handle: Handler) -> None:
    try:
        await handle(message)
    except (DependencyAway, psycopg.Error) as error:
        logger.warning("will try again: {}", error)
        await message.nak(delay=REDELIVERY_SECONDS)
    else:
        await message.ack()


def park_undeliverable(bus: Bus, park: Park) -> Handler:
    """Handles advisories of nats-server that a message will not be delivered again: parks it, where users see it."""

    async def handle(message: Msg) -> None:
        advisory = json.loads(message.data)
        stream, sequence = str(advisory["stream"]), int(advisory["stream_seq"])
        found = await direct_get.one(bus, stream, sequence)
        tries = int(advisory.get("deliveries", 1))
        reason = f"consumer {advisory['consumer']} will not get it again after {tries} deliveries"
        await park(stream, found or LogMessage("", {}, b"", sequence), reason, tries=tries)

    return handle


def retry_parked(bus: Bus, projector: Projector, park: Park) -> Handler:
    """Handles requests to retry a parked message: folds its job again; what still fails is parked again."""

    async def handle(message: Msg) -> None:
        recorded = unseal_or_none(message.subject, message.headers, message.data, sequence=1)
        event = recorded.event if recorded else None
        if not isinstance(event, ParkedSettled) or event.action != "retry":
            return
        parked = await _parked(bus, event.parked_sequence)
        if parked is None or parked.stream != streams.JOBS.name:
            return
        for item in await projector.refold(entity_of(parked.subject)):
            await park(parked.stream, item.message, item.problem, tries=parked.deliveries + 1)

    return handle


async def _parked(bus: Bus, sequence: int) -> MessageParked | None:
    found = await direct_get.one(bus, streams.PARKED.name, sequence)
    if found is None:
        return None
    event = unseal(found.subject, found.headers, found.data, sequence=sequence).event
    return event if isinstance(event, MessageParked) else None
